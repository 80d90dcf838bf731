"""Django's logins by name and password, limited by their failures."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest

from access.logins.attempts import counted
from node.client_address import client_network


class LimitedBackend(ModelBackend):
    """Names and passwords, each guess counted by user and address."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        """Return the user; raises TooManyLogins, or PasswordsBusy.

        A call without a request is a command's, and its guesses are no stranger's.
        """
        if request is None or username is None or password is None:
            return super().authenticate(request, username=username, password=password, **kwargs)
        with counted(user=username, address=client_network(request)) as outcome:
            user = super().authenticate(request, username=username, password=password, **kwargs)
            outcome.is_right = user is not None
        return user
