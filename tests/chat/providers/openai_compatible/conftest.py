"""A provider for these tests alone, and models that call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chat.providers.openai_compatible import OpenAICompatibleChatModel
from chat.providers.openai_compatible.pool import close_pools
from tests.provider import Provider

MakeModel = Callable[..., OpenAICompatibleChatModel]


@pytest.fixture(scope="module")
def own_provider() -> Iterator[Provider]:
    """Run a provider."""
    with Provider().running() as provider:
        yield provider


@pytest.fixture
def make_model(own_provider: Provider) -> Iterator[MakeModel]:
    """Return a function that makes a model of this provider; its connections end with the test."""

    def make(name: str, **parameters: Any) -> OpenAICompatibleChatModel:
        return OpenAICompatibleChatModel(model=name, base_url=own_provider.base_url, **parameters)

    yield make
    close_pools()
