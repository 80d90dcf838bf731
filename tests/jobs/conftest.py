"""What tests of jobs use: the chains and clients of the chat tests."""

from tests.chat.conftest import (  # noqa: F401
    chains,
    http,
    keys,
    make_http,
    marker,
    other_http,
    provider,
    save_chains,
    sdk,
)
