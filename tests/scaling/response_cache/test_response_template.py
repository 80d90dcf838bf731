"""Responses of a template have volatile texts of their own, and nothing else changed."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.response_cache.response_template import ResponseTemplate
from tests.scaling.response_cache.entries import make_entry

ID = '"id":"chatcmpl-0123456789abcdef0123456789abcdef"'
CREATED = '"created":1764000000'
NEW = (b'"id":"chatcmpl-new"', b'"created":1764099999')


def completion(content: str) -> bytes:
    return orjson.dumps(
        {
            "id": "chatcmpl-0123456789abcdef0123456789abcdef",
            "created": 1764000000,
            "choices": [{"message": {"role": "assistant", "content": content}}],
        }
    )


def render(body: bytes, volatile_texts: tuple[str, ...] = (ID, CREATED), *new: bytes) -> bytes:
    return ResponseTemplate.of(make_entry(body, volatile_texts=volatile_texts)).render(
        *(new or NEW)
    )


def test_what_is_renewed_is_renewed_everywhere():
    events = [b"data: " + completion(text) + b"\n\n" for text in ("One", "two", "three")]
    body = b"".join([*events, b"data: [DONE]\n\n"])
    again = render(body)
    assert again == body.replace(ID.encode(), NEW[0]).replace(CREATED.encode(), NEW[1])
    assert again.count(NEW[0]) == again.count(NEW[1]) == 3
    assert b"0123456789abcdef" not in again
    assert b"1764000000" not in again


def test_each_answer_has_its_own_and_the_entry_stays_as_it_was():
    entry = make_entry(completion("Hello"), volatile_texts=(ID, CREATED))
    template = ResponseTemplate.of(entry)
    first = template.render(*NEW)
    second = template.render(b'"id":"other"', b'"created":5')
    assert orjson.loads(first)["id"] == "chatcmpl-new"
    assert orjson.loads(second)["id"] == "other"
    assert orjson.loads(second)["created"] == 5
    assert entry.body == completion("Hello")


@pytest.mark.parametrize(
    "content",
    [
        ID,
        CREATED,
        f"say {ID} and {CREATED}",
        f'\\{ID}\\\\{CREATED}"',
        "chatcmpl-0123456789abcdef0123456789abcdef",
        '"id":"chatcmpl-new"',
        'say "id":"chatcmpl-" and "created":',
        r"\1 \g<0> (?P<x>) .* $",
    ],
)
def test_the_words_of_a_model_or_a_client_stay_as_they_were(content):
    again = orjson.loads(render(completion(content)))
    assert again["choices"][0]["message"]["content"] == content
    assert (again["id"], again["created"]) == ("chatcmpl-new", 1764099999)


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(list('"\\:{}01'))))
def test_no_text_is_changed(content):
    again = orjson.loads(render(completion(content)))
    assert again["choices"][0]["message"]["content"] == content


def test_new_texts_are_taken_as_they_are():
    assert render(b"<a> and <b>", ("<a>", "<b>"), rb"\g<1>", b"<a>") == rb"\g<1> and <a>"


def test_special_characters_in_what_is_renewed_mean_themselves():
    assert render(b"axc a.c", ("a.c",), b"!") == b"axc !"
    assert render("é ü".encode(), ("é",), b"e") == "e ü".encode()


def test_an_entry_with_nothing_to_renew_is_given_as_it_is():
    body = completion("Hello")
    for volatile_texts in ((), ("",), ("not in it",)):
        template = ResponseTemplate.of(make_entry(body, volatile_texts=volatile_texts))
        assert template.render(*(b"new" for _ in volatile_texts)) is body or (
            template.render(*(b"new" for _ in volatile_texts)) == body
        )


def test_an_empty_text_among_others_is_nowhere():
    assert render(b"abc", ("", "b"), b"-", b"B") == b"aBc"
