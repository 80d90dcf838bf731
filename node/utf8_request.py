"""Django's request, for a site that speaks UTF-8 alone."""

from __future__ import annotations

from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.utils.http import parse_header_parameters


class Utf8Request(WSGIRequest):
    """A request whose `Content-Type` says how its body is to be parsed, and nothing else.

    Django takes `charset` for the codec of the address and the form's fields, also `hex` and
    `undefined`, which are none; and it raises on parameters that it cannot decode before there is
    a request to answer. A type that cannot be parsed becomes one that no parser takes.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            found = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        # The email package, which parses the parameters, raises errors of any class.
        except Exception:
            meta["CONTENT_TYPE"] = "application/octet-stream"
            found = (meta["CONTENT_TYPE"], {})
        self.content_type, self.content_params = found
