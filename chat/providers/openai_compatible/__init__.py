"""LangChain's chat model for servers that speak OpenAI's chat completions."""

from chat.providers.openai_compatible.model import OpenAICompatibleChatModel

__all__ = ["OpenAICompatibleChatModel"]
