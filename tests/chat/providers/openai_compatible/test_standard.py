"""LangChain's own tests of chat models, against the tests' provider over HTTP.

Those of images, sound and files load them from the internet; test_requests.py has such parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from chat.providers.openai_compatible import OpenAICompatibleChatModel
from tests.provider import Provider

PROVIDER = Provider()


@pytest.fixture(scope="module", autouse=True)
def _running() -> Iterator[None]:
    with PROVIDER.running():
        yield


class TestUnit(ChatModelUnitTests):
    """Construction, parameters, tools and tracing."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The class that is tested."""
        return OpenAICompatibleChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Its arguments."""
        return {"model": "standard", "base_url": PROVIDER.base_url}


class TestIntegration(ChatModelIntegrationTests):
    """Calls of every kind."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The class that is tested."""
        return OpenAICompatibleChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Its arguments."""
        return {"model": "standard", "base_url": PROVIDER.base_url}

    @property
    def supports_json_mode(self) -> bool:
        """JSON mode is one of its methods."""
        return True

    @property
    def model_override_value(self) -> str:
        """Another model of the same server."""
        return "hello"
