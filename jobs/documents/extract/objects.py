"""Access to a PDF's objects, which may be of any kind and stand anywhere."""

from typing import Any

from pypdf.generic import ArrayObject, DictionaryObject, NullObject


def resolved(value: Any) -> Any:
    """Return the object that a reference stands for, or the value itself."""
    return None if value is None else value.get_object()


def entry(dictionary: Any, key: str) -> Any:
    """Return the object of a dictionary's key, None without one or without a dictionary."""
    if not isinstance(dictionary, DictionaryObject):
        return None
    value = resolved(dictionary.get(key))
    return None if isinstance(value, NullObject) else value


def items(value: Any) -> list[Any]:
    """Return the objects in an array, none if it is another object."""
    found = resolved(value)
    return [resolved(item) for item in found] if isinstance(found, ArrayObject) else []
