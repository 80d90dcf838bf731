"""The response cache, as chains and their APIs use it."""
