"""The chat model for OpenAI-compatible servers."""
