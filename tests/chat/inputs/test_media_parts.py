"""Hostile images, sounds and files are refused by their path, and never by what they hold."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY

from chat.inputs.completion_request import ChatCompletionRequest
from config.api.errors import InvalidRequest
from config.api.validation import parse

SECRET = "c2VjcmV0c2VjcmV0"
TEXT = {"type": "text", "text": "x"}


def image(url: Any, **more: Any) -> dict[str, Any]:
    """Return an image's part."""
    return {"type": "image_url", "image_url": {"url": url, **more}}


def sound(data: Any, form: Any = "wav") -> dict[str, Any]:
    """Return a sound's part."""
    return {"type": "input_audio", "input_audio": {"data": data, "format": form}}


def file(data: Any, **more: Any) -> dict[str, Any]:
    """Return a file's part."""
    return {"type": "file", "file": {"file_data": data, **more}}


GOOD = image(f"data:image/png;base64,{SECRET}")


def error_for(*parts: Any, role: str = "user") -> InvalidRequest:
    """Return the error of a request whose second message has these parts."""
    message = {"role": role, "content": list(parts)}
    if role == "tool":
        message["tool_call_id"] = "c"
    messages = [{"role": "user", "content": "x"}, message]
    with pytest.raises(InvalidRequest) as caught:
        parse(ChatCompletionRequest, {"model": "m", "messages": messages})
    return caught.value


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url"}, "image_url"),
        ({"type": "image_url", "image_url": None}, "image_url"),
        ({"type": "image_url", "image_url": SECRET}, "image_url"),
        ({"type": "image_url", "image_url": [SECRET]}, "image_url"),
        ({**GOOD, "x": 1}, "x"),
        (image(None), "image_url.url"),
        (image(7), "image_url.url"),
        (image({"url": SECRET}), "image_url.url"),
        (image(""), "image_url.url"),
        (image(SECRET), "image_url.url"),
        (image("file:///etc/passwd"), "image_url.url"),
        (image("ftp://example.org/a.png"), "image_url.url"),
        (image("https://example.org/a b"), "image_url.url"),
        (image("https://example.org/\r\nx"), "image_url.url"),
        (image("https://" + "a" * 9000), "image_url.url"),
        (image("data:"), "image_url.url"),
        (image("data:image/png," + SECRET), "image_url.url"),
        (image("data:image/png;base64,"), "image_url.url"),
        (image("data:image/png;base64,secret!"), "image_url.url"),
        (image("data:image/png;base64,c2Vjc"), "image_url.url"),
        (image("data:image/png;base64,é"), "image_url.url"),
        (image("data:image/png;base64,c2Vj\ncmV0"), "image_url.url"),
        (image("data:text/html;base64," + SECRET), "image_url.url"),
        (image("data:application/pdf;base64," + SECRET), "image_url.url"),
        (image("data:" + "image/" * 100_000), "image_url.url"),
        (image(GOOD["image_url"]["url"], detail="huge"), "image_url.detail"),
        (image(GOOD["image_url"]["url"], x=1), "image_url.x"),
        (sound(None), "input_audio.data"),
        (sound("secret!"), "input_audio.data"),
        (sound(""), "input_audio.data"),
        (sound(SECRET, None), "input_audio.format"),
        (sound(SECRET, "../wav"), "input_audio.format"),
        ({"type": "input_audio", "input_audio": []}, "input_audio"),
        (file(None), "file.file_data"),
        (file("secret!"), "file.file_data"),
        (file(SECRET), "file.file_data"),
        (file(f"data:application/pdf;base64,{SECRET}", file_id="f-1"), "file.file_id"),
        ({"type": "file", "file": {"file_id": "file-1"}}, None),
        ({"type": "video_url", "video_url": {"url": SECRET}}, None),
        ({"type": ["image_url"]}, "type"),
        ({"type": None}, "type"),
    ],
)
def test_a_wrong_part_is_refused_by_its_path(part: dict[str, Any], param: str | None) -> None:
    error = error_for(TEXT, part)
    assert error.status == 400
    assert (error.param or "").startswith("messages.1.content.1.")
    assert param is None or error.param == f"messages.1.content.1.{param}"
    assert "secret" not in error.message
    assert SECRET not in error.message


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool"])
def test_only_the_user_sends_other_parts(role: str) -> None:
    assert error_for(TEXT, GOOD, role=role).param == "messages.1.content.1.type"


@pytest.mark.parametrize(
    ("role", "names"),
    [("user", "text, image_url, input_audio or file"), ("assistant", "text or refusal")],
)
@pytest.mark.parametrize("kind", ["video_url", None, ["text"], SECRET])
def test_an_unknown_type_is_refused_with_those_that_are_known(
    kind: Any, role: str, names: str
) -> None:
    error = error_for(TEXT, {"type": kind}, role=role)
    assert error.param == "messages.1.content.1.type"
    assert f"must be {names}" in error.message
    assert SECRET not in error.message


@pytest.mark.parametrize(
    ("setting", "value"), [("MAX_MEDIA_PARTS", 2), ("MAX_MEDIA_PARTS", 0), ("MAX_MEDIA_BYTES", 90)]
)
def test_parts_are_bounded_by_a_setting_that_the_error_names(
    settings: Any, setting: str, value: int
) -> None:
    setattr(settings, setting, value)
    labels = {"setting": setting}
    before = REGISTRY.get_sample_value("headrace_media_refused_total", labels) or 0
    error = error_for(TEXT, GOOD, GOOD, GOOD)
    assert error.code == "too_much_media"
    assert setting in error.message
    assert error.param == f"messages.1.content.{value + 1 if value < 90 else 3}"
    assert REGISTRY.get_sample_value("headrace_media_refused_total", labels) == before + 1


def test_accepted_parts_are_counted_by_kind() -> None:
    labels = {"kind": "image_url"}
    before = REGISTRY.get_sample_value("headrace_media_parts_total", labels) or 0
    messages = [{"role": "user", "content": [GOOD, TEXT, GOOD]}]
    parse(ChatCompletionRequest, {"model": "m", "messages": messages})
    assert REGISTRY.get_sample_value("headrace_media_parts_total", labels) == before + 2
