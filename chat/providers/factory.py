"""Make models from a chain's configuration: of OpenAI-compatible servers, and LangChain's own."""

from inspect import signature
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from langchain.chat_models import init_chat_model
from langchain_core.language_models.chat_models import BaseChatModel
from pydantic import SecretStr, ValidationError

from chat.chains.config import ChainConfig
from chat.errors import BadChain
from chat.providers import request_types
from chat.providers.openai_compatible import OpenAICompatibleChatModel
from chat.providers.openai_compatible.model import OPENAI_URL
from chat.providers.response_limits import bound_answers
from config import tls

# Any OpenAI-compatible server, by our own class and by LangChain's with OpenAI's SDK.
OPENAI_COMPATIBLE = "openai:"
OPENAI_SDK = "langchain-openai:"
NO_KEY = "set LLM_API_KEY, or LLM_BASE_URL for another server"
# A parameter with one of these in its name could lead a key, or the prompts, to another server.
GUARDED_WORDS = (
    *("url", "base", "key", "secret", "proxy", "header", "query", "client", "endpoint"),
    *("workload", "organization", "credential"),
)


def make_model(name: str, config: ChainConfig) -> BaseChatModel:
    """Return the model of a name, as `init_chat_model` names it; raises BadChain with the reason.

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
    if name.startswith(OPENAI_COMPATIBLE):
        return _openai_compatible(name, {**arguments, **config.parameters}, config)
    tls.install()
    is_openai_sdk = name.startswith(OPENAI_SDK)
    if is_openai_sdk:
        arguments |= _openai_arguments(config)
    lc_name = "openai:" + name.removeprefix(OPENAI_SDK) if is_openai_sdk else name
    try:
        model = init_chat_model(lc_name, **{**arguments, **config.parameters})
    # A provider's package may be missing, or refuse an argument with any exception of its own.
    except Exception as error:
        # Its own text is long, and of variables that are not ours; its other errors are of calls.
        # Compared by name, because it may be the package that is missing.
        if is_openai_sdk and type(error).__name__ == "OpenAIError":
            raise BadChain(f"model {name!r} has no key: {NO_KEY}") from error
        raise BadChain(f"model {name!r}: {type(error).__name__}: {error}") from error
    if not isinstance(model, BaseChatModel):
        raise BadChain(f"model {name!r} is not a chat model")
    if is_openai_sdk and (unknown := _unknown_to_openai(model)):
        raise BadChain(
            f"model {name!r} takes no {unknown!r}; parameters of your server go into "
            f'"extra_body": {{"{unknown}": ...}}'
        )
    bound_answers(model)
    # The model's class has loaded its SDK.
    request_types.install()
    return model


def _openai_compatible(
    name: str, arguments: dict[str, Any], config: ChainConfig
) -> OpenAICompatibleChatModel:
    base_url = config.base_url or settings.LLM_BASE_URL
    key = key_for(base_url) if base_url else settings.LLM_API_KEY
    if not base_url and not key:
        raise BadChain(f"model {name!r} has no key: {NO_KEY}")
    try:
        return OpenAICompatibleChatModel(
            model=name.removeprefix(OPENAI_COMPATIBLE),
            base_url=base_url or OPENAI_URL,
            api_key=SecretStr(key),
            **arguments,
        )
    except ValidationError as error:
        raise BadChain(f"model {name!r}: {_describe(error)}") from error
    except ValueError as error:
        raise BadChain(f"model {name!r}: {error}") from error


def _describe(error: ValidationError) -> str:
    """Return what is wrong with the first parameter, without its value."""
    first = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return (
            f"it takes no {field!r}; parameters of your server go into "
            f'"extra_body": {{"{field}": ...}}, those of LangChain\'s class need {OPENAI_SDK}...'
        )
    return f"{field}: {first['msg']}"


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
