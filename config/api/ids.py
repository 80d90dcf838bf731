"""Public ids: a prefix that names the kind, and a time-ordered UUID (version 7)."""

import uuid

import uuid_utils.compat

from config.api.errors import NotFound


def new_uuid() -> uuid.UUID:
    """Return a version 7 UUID: ids made later sort later, also as a primary key's index."""
    return uuid_utils.compat.uuid7()


def to_public_id(prefix: str, value: uuid.UUID) -> str:
    """Return `conv_0192...`: the prefix, an underscore and 32 hexadecimal digits."""
    return f"{prefix}_{value.hex}"


def from_public_id(prefix: str, text: str) -> uuid.UUID:
    """Return the UUID of a public id; raises NotFound when it is not one of this kind."""
    head, _, digits = text.partition("_")
    try:
        if head != prefix or len(digits) != 32:
            raise ValueError(text)
        return uuid.UUID(hex=digits)
    except ValueError as error:
        raise NotFound(f"There is no {prefix} with this id.", code="not_found") from error
