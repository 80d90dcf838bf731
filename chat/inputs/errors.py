"""Errors that name the faulty part of an input."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from config.api.errors import InvalidRequest
from config.api.validation import field_path

# A fault may quote the input, and a client's keys may be of any length.
MAX_MESSAGE_CHARS = 300
MAX_PARAM_CHARS = 200


def invalid_input(message: str, *, param: str) -> InvalidRequest:
    """Return the error (422, as in LangServe) of an input that a chain cannot take."""
    param = param[:MAX_PARAM_CHARS]
    return InvalidRequest(
        f"{param}: {message[:MAX_MESSAGE_CHARS]}", param=param, code="invalid_input", status=422
    )


def unsupported(message: str, *, param: str) -> InvalidRequest:
    """Return the error (400) of a part that is refused by its name, never dropped."""
    param = param[:MAX_PARAM_CHARS]
    return InvalidRequest(f"{param}: {message}", param=param, code="unsupported_parameter")


def from_validation(error: ValidationError, value: Any, *, param: str) -> InvalidRequest:
    """Return the error that names the faulty part of `value`, which stands at `param`.

    A union has faults for each of its members; the deepest is the nearest to the intended one.
    """
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    located = [
        (field_path(fault["loc"], value, is_missing=fault["type"] == "missing"), fault["msg"])
        for fault in faults
    ]
    path, message = max(located, key=lambda fault: len(fault[0]))
    return invalid_input(f"{message}.", param=".".join([param, *path]))
