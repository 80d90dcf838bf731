"""The argument of a chain's builder: its configuration, and the model to build it with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

from chat.chains.config import ChainConfig

if TYPE_CHECKING:
    from chat.providers.chat_model import ResilientChatModel


@dataclass(frozen=True, kw_only=True)
class BuildContext(ChainConfig):
    """A chain's configuration with its chat model, which is built on first use."""

    @classmethod
    def of(cls, config: ChainConfig) -> BuildContext:
        """Return the context for building a chain of this configuration."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(config)})

    @cached_property
    def model(self) -> ResilientChatModel:
        """The chat model to put into the runnable: retries, fallbacks and usage included."""
        # The model classes take half a second to import; a runnable without a model needs none.
        from chat.providers.chat_model import ResilientChatModel  # noqa: PLC0415

        return ResilientChatModel.from_config(self)
