"""Errors of responses, in addition to those of their jobs."""

from __future__ import annotations

from config.api.errors import ApiError


class ResponseNotFound(ApiError):
    """There is no such response, or it is another account's."""

    def __init__(self) -> None:
        super().__init__(404, "There is no such response.", code="response_not_found")
