"""A day of LiteLLM as a client; run by the Python that has it installed."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import litellm  # type: ignore[import-not-found]

OPTIONS = {
    "api_base": os.environ["CLIENT_BASE_URL"],
    "api_key": os.environ["CLIENT_API_KEY"],
    "max_retries": 0,
}
MESSAGES = [{"role": "user", "content": "Weather in 'Oslo' and Rome?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def complete(model: str, messages: list[Any] = MESSAGES, **more: Any) -> Any:
    """Return the answer of one of the stack's chains."""
    return litellm.completion(f"openai/{model}", messages, **{**OPTIONS, **more})


def done(step: str, result: Any = None) -> None:
    """Print the line of a step."""
    sys.stdout.write(json.dumps({"step": step, "result": result}) + "\n")


def failure(expected: type[Exception], call: Callable[..., Any], *names: Any, **more: Any) -> Any:
    """Return the error that a call raises."""
    try:
        call(*names, **more)
    except expected as error:
        return error
    sys.exit(f"no {expected.__name__}")


def main() -> None:
    """Run each step."""
    answer = complete("provider-hello")
    done("chat", [answer.choices[0].message.content, answer.usage.total_tokens])

    chunks = list(
        complete("provider-slow-stream", stream=True, stream_options={"include_usage": True})
    )
    pieces = [
        c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content
    ]
    usages = [c.usage.total_tokens for c in chunks if getattr(c, "usage", None)]
    done("stream with usage", [len(pieces), usages])

    first = complete("provider-tool-call", tools=[WEATHER]).choices[0].message
    calls = first.tool_calls
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sun"} for call in calls]
    last = complete("provider-tool-call", [*MESSAGES, first, *results], tools=[WEATHER])
    cities = [json.loads(call.function.arguments)["city"] for call in calls]
    done("tools", [cities, last.choices[0].message.content])

    schema = {"name": "place", "schema": SCHEMA, "strict": True}
    answer = complete(
        "provider-standard", response_format={"type": "json_schema", "json_schema": schema}
    )
    done("structured output", json.loads(answer.choices[0].message.content))

    made = litellm.responses(model="openai/provider-hello", input="Hi", **OPTIONS)
    done("responses", made.output[0].content[0].text)

    failure(litellm.AuthenticationError, complete, "provider-hello", api_key="wrong")
    failure(litellm.NotFoundError, complete, "absent")
    error = failure(litellm.BadRequestError, complete, "provider-hello", max_tokens=10**9)
    done("errors", str(error))

    limited: dict[str, Any] = {"api_key": os.environ["CLIENT_LIMITED_KEY"]}

    def exhaust() -> None:
        for _ in range(30):
            complete("provider-hello", **limited)

    failure(litellm.RateLimitError, exhaust)
    answer = complete("provider-hello", **limited, max_retries=1)
    done("retry after 429", answer.choices[0].message.content)


main()
