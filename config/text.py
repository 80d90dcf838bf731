"""Texts from outside, as PostgreSQL can store them."""


def storable(text: str) -> str:
    """Return a text without NUL, and with `?` for each lone surrogate.

    PostgreSQL stores neither; models, receivers of webhooks and parsers of documents send both.
    """
    return text.replace("\0", "").encode(errors="replace").decode()
