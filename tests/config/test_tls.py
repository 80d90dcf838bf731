"""The HTTP clients of chat models share what verifies servers."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from config import tls


@pytest.fixture(params=tls.LIBRARIES)
def create(request: pytest.FixtureRequest) -> Callable[..., ssl.SSLContext]:
    """The function by which a library makes the context of a new client."""
    tls.install()
    # The libraries make contexts by this name alone, which ours replaces.
    module: Any = import_module(f"{request.param}._transports.default")
    made: Callable[..., ssl.SSLContext] = module.create_ssl_context
    return made


def test_clients_that_verify_alike_share_their_context(
    create: Callable[..., ssl.SSLContext],
) -> None:
    shared = create()
    assert create(verify=True, cert=None, trust_env=True) is shared
    assert shared.verify_mode is ssl.CERT_REQUIRED
    assert shared.check_hostname


def test_a_client_that_verifies_otherwise_has_its_own(
    create: Callable[..., ssl.SSLContext],
) -> None:
    unverified, own = create(verify=False), ssl.create_default_context()
    assert unverified is not create()
    assert unverified.verify_mode is ssl.CERT_NONE
    assert create(verify=own) is own
