"""The response cache of chains and their APIs."""
