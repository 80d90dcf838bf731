"""Read a request's body into a pydantic model, with every fault as one clear API error."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from config.api.errors import InvalidRequest

Model = TypeVar("Model", bound=BaseModel)


class RequestModel(BaseModel):
    """A request's body: no coercion of types, and no field that we do not know."""

    model_config = ConfigDict(strict=True, extra="forbid")


def parse(model: type[Model], data: Any) -> Model:
    """Return the validated body; raises InvalidRequest that names the first faulty field.

    An unknown field is refused as `unsupported_parameter`, never dropped.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # Tags of unions stand in the location as well, such as messages.0.user.content.
    param = ".".join(str(part) for part in first["loc"]) or None
    if first["type"] == "extra_forbidden":
        raise InvalidRequest(
            f"{param} is not supported.", param=param, code="unsupported_parameter"
        )
    message = first["msg"].removeprefix("Value error, ")
    raise InvalidRequest(f"{param or 'The body'}: {message}.", param=param)
