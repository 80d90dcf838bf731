"""A model provider that speaks OpenAI's chat completions over HTTP, and misbehaves on command.

The `model` of a request says how it behaves: the name of one of the functions in behaviours.py,
dialects.py or tool_dialects.py.
Every request is kept in `Provider.calls`, with the moment at which Headrace hung up on it.
"""

from tests.provider import dialects as dialects
from tests.provider import standard as standard
from tests.provider import tool_dialects as tool_dialects
from tests.provider.behaviours import BEHAVIOURS, WORDS
from tests.provider.exchange import SECRET, USAGE, ProviderCall
from tests.provider.server import Provider

__all__ = ["BEHAVIOURS", "SECRET", "USAGE", "WORDS", "Provider", "ProviderCall"]
