"""Make LangChain's own model classes from a chain's configuration."""

from inspect import signature
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from langchain.chat_models import init_chat_model
from langchain_core.language_models.chat_models import BaseChatModel

from chat.chains.config import ChainConfig
from chat.errors import BadChain
from chat.providers import request_types
from chat.providers.response_limits import bound_answers
from config import tls

# Providers whose class speaks to any OpenAI-compatible server.
OPENAI_COMPATIBLE = "openai:"
# A parameter with one of these in its name could lead a key, or the prompts, to another server.
GUARDED_WORDS = (
    *("url", "base", "key", "secret", "proxy", "header", "query", "client", "endpoint"),
    *("workload", "organization", "credential"),
)


def make_model(name: str, config: ChainConfig) -> BaseChatModel:
    """Return the model that `init_chat_model` makes of a name; raises BadChain with the reason.

    Retries are left to ResilientChatModel, which has the run's deadline and the fallbacks.
    """
    if ":" not in name:
        raise BadChain(f"model {name!r} names no provider; write openai:{name}, for one")
    for parameter in config.parameters:
        if any(word in parameter for word in GUARDED_WORDS):
            raise BadChain(f"the parameter {parameter!r} may not be set; see LLM_API_KEYS")
    arguments: dict[str, Any] = {
        "timeout": config.timeout_seconds,
        "max_retries": 0,
        **({} if config.temperature is None else {"temperature": config.temperature}),
        **({} if config.max_tokens is None else {"max_tokens": config.max_tokens}),
    }
    tls.install()
    if name.startswith(OPENAI_COMPATIBLE):
        arguments |= _openai_arguments(config)
    try:
        model = init_chat_model(name, **{**arguments, **config.parameters})
    # A provider's package may be missing, or refuse an argument with any exception of its own.
    except Exception as error:
        # Its own text is long, and of variables that are not ours; its other errors are of calls.
        # Compared by name, because it may be the package that is missing.
        if name.startswith(OPENAI_COMPATIBLE) and type(error).__name__ == "OpenAIError":
            raise BadChain(
                f"model {name!r} has no key: set LLM_API_KEY, or LLM_BASE_URL for another server"
            ) from error
        raise BadChain(f"model {name!r}: {type(error).__name__}: {error}") from error
    if not isinstance(model, BaseChatModel):
        raise BadChain(f"model {name!r} is not a chat model")
    if name.startswith(OPENAI_COMPATIBLE) and (unknown := _unknown_to_openai(model)):
        raise BadChain(
            f"model {name!r} takes no {unknown!r}; parameters of your server go into "
            f'"extra_body": {{"{unknown}": ...}}'
        )
    bound_answers(model)
    # The model's class has loaded its SDK.
    request_types.install()
    return model


def _openai_arguments(config: ChainConfig) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        # Compatible servers speak chat completions; few speak the newer Responses API.
        "use_responses_api": False,
        # Without this a stream from another server than OpenAI's would not report its usage.
        "stream_usage": True,
    }
    if base_url := config.base_url or settings.LLM_BASE_URL:
        # The class refuses to be built without a key; a server on the local network needs none.
        arguments |= {"base_url": base_url, "api_key": key_for(base_url) or "none"}
    elif settings.LLM_API_KEY:
        arguments["api_key"] = settings.LLM_API_KEY
    return arguments


def _unknown_to_openai(model: Any) -> str | None:
    """Return a parameter that OpenAI's SDK would refuse at each call, by raising a TypeError."""
    # Loaded with the model's class.
    from openai.resources.chat.completions import Completions  # noqa: PLC0415

    known = signature(Completions.create).parameters
    return next((str(key) for key in model.model_kwargs if key not in known), None)


def pass_response_format_through(model: BaseChatModel, options: dict[str, Any]) -> dict[str, Any]:
    """Return a call's options with `response_format` in the extra body, where no SDK reads it.

    OpenAI's SDK would parse the answer by it, and raise for one that was cut short, and for tools
    that are not strict. The answer is the client's to parse.
    """
    if not hasattr(model, "extra_body"):
        return options
    others = {name: value for name, value in options.items() if name != "response_format"}
    body = {**(model.extra_body or {}), **options.get("extra_body", {})}
    return {**others, "extra_body": {**body, "response_format": options["response_format"]}}


def key_for(base_url: str) -> str:
    """Return the key for a server, "" when there is none.

    A key belongs to a host, so that staff who may edit a chain's base URL cannot send a key to a
    server of their own.
    """
    host = urlsplit(base_url).netloc.rpartition("@")[2]
    if host in settings.LLM_API_KEYS:
        return str(settings.LLM_API_KEYS[host])
    if host == urlsplit(settings.LLM_BASE_URL).netloc.rpartition("@")[2]:
        return str(settings.LLM_API_KEY)
    return ""
