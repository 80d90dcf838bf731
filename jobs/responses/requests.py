"""The input and the parameters that a job stores of a request for a response."""

from __future__ import annotations

from typing import Any

from chat.chains.registry import BuiltChain, ChatInput
from config.api.errors import InvalidRequest
from jobs.inputs import TYPE_BY_ROLE
from jobs.responses.schemas import ResponseRequest, messages_of

# The request's fields that a Response repeats.
REPEATED = ("instructions", "max_output_tokens", "temperature", "top_p", "user")


def job_input(chain: BuiltChain, request: ResponseRequest) -> Any:
    """Return the chain's input as JSON; raises InvalidRequest if it takes no messages."""
    slug = chain.config.slug
    messages = messages_of(request)
    if chain.chat_input is ChatInput.NONE:
        raise InvalidRequest(
            f"{slug} does not take chat messages; submit its own input to /v1/jobs.",
            param="model",
            code="not_a_chat_chain",
        )
    if chain.chat_input is ChatInput.TEXT:
        texts = [text for role, text in messages if role == "user"]
        if not texts:
            raise InvalidRequest(
                f"{slug} takes the last user message, and there is none.", param="input"
            )
        if request.instructions:
            raise InvalidRequest(
                f"{slug} takes the last user message alone, and no instructions.",
                param="instructions",
            )
        return {chain.text_key: texts[-1]} if chain.text_key else texts[-1]
    tagged = [{"type": TYPE_BY_ROLE[role], "content": text} for role, text in messages]
    return tagged if chain.chat_input is ChatInput.LIST else {"messages": tagged}


def job_request(request: ResponseRequest) -> dict[str, Any]:
    """Return the fields that a job stores: those that are repeated, and the model's `options`."""
    options = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_output_tokens,
        "user": request.user,
    }
    return {
        "background": bool(request.background),
        "options": {name: value for name, value in options.items() if value is not None},
        **{name: getattr(request, name) for name in REPEATED},
    }
