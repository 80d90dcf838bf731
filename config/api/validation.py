"""Read a request's body into a pydantic model, with every fault as one clear API error."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from config.api.errors import InvalidRequest

Model = TypeVar("Model", bound=BaseModel)
# Errors of a union's tag, whose location is the object; `discriminator` is the name of the tag.
TAG_FAULTS = ("union_tag_invalid", "union_tag_not_found")


class RequestModel(BaseModel):
    """A request's body: no coercion of types, and no field that we do not know.

    What changes nothing by its value is taken: null for every field that may be absent, also an
    unknown one; an unknown field's empty list; and the values in `neutral`, by the field's name.
    """

    model_config = ConfigDict(strict=True, extra="forbid")
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def drop_neutral(cls, data: Any) -> Any:
        """Return an object without the members that change nothing."""
        if not isinstance(data, dict):
            return data
        if None not in data.values() and data.keys() <= cls.model_fields.keys():
            return data
        return {name: value for name, value in data.items() if not cls._is_neutral(name, value)}

    @classmethod
    def _is_neutral(cls, name: str, value: Any) -> bool:
        if (field := cls.model_fields.get(name)) is not None:
            return value is None and not field.is_required()
        if value is None or value == []:
            return True
        # True is 1 to Python, and means something else.
        return any(type(value) is type(one) and value == one for one in cls.neutral.get(name, ()))


def whole(value: Any) -> Any:
    """Return a number without a fraction as an integer, and any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON has one kind of number: 100.0 is 100, and serializers of some languages write it so.
Integer = Annotated[int, BeforeValidator(whole)]


def one_of(*kinds: str) -> BeforeValidator:
    """Return a validator of a tag whose error names all members of its union."""
    names = " or ".join(filter(None, [", ".join(kinds[:-1]), kinds[-1]]))

    def check(value: Any) -> Any:
        if value not in kinds:
            raise ValueError(f"must be {names}")
        return value

    return BeforeValidator(check)


def list_or_text(value: Any) -> str:
    """Return the tag of a union's member: a list, or else a text."""
    return "list" if isinstance(value, list) else "text"


def object_or_text(value: Any) -> str:
    """Return the tag of a union's member: an object, or else a text."""
    return "object" if isinstance(value, dict) else "text"


def parse(model: type[Model], data: Any) -> Model:
    """Return the validated body; raises InvalidRequest that names the first faulty field.

    An unknown field that may change something is refused as `unsupported_parameter`, never dropped.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    path = field_path(first["loc"], data, is_missing=first["type"] == "missing")
    if first["type"] in TAG_FAULTS and (name := first.get("ctx", {}).get("discriminator")):
        path.append(str(name).strip("'"))
        expected = first.get("ctx", {}).get("expected_tags")
        first["msg"] = f"Must be one of {expected}" if expected else "Field required"
    param = ".".join(path) or None
    if first["type"] == "extra_forbidden":
        raise InvalidRequest(
            f"{param} is not supported.", param=param, code="unsupported_parameter"
        )
    message = first["msg"].removeprefix("Value error, ")
    raise InvalidRequest(f"{param or 'The body'}: {message}.", param=param)


def field_path(location: tuple[int | str, ...], value: Any, *, is_missing: bool) -> list[str]:
    """Return pydantic's location as the path of a field in the value.

    Without the names of types and the tags of unions, which stand between the keys. A missing
    field is the last.
    """
    path = []
    for part in location:
        is_key = isinstance(value, Mapping) and part in value
        is_index = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if is_key or is_index:
            path.append(str(part))
            value = value[part]
    return [*path, str(location[-1])] if is_missing else path
