"""The glossary is in order, names its sources, and points at code that exists."""

from __future__ import annotations

import re

from tests.docs.texts import document
from tests.stack_plugin import BASE_DIR

RFC = re.compile(r"\[RFC (\d+)\]\(https://www\.rfc-editor\.org/rfc/rfc(\d+)\)")


def rows() -> list[list[str]]:
    """Return the cells of each row: term, meaning, source and code."""
    lines = document("docs/glossary.md").splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| **")]


def test_the_terms_are_in_alphabetical_order_and_unique() -> None:
    terms = [row[0].casefold() for row in rows()]
    assert len(terms) >= 30
    assert terms == sorted(set(terms))


def test_every_term_has_a_meaning_a_source_and_code() -> None:
    assert [row for row in rows() if len(row) != 4 or not all(row)] == []


def test_the_code_of_every_term_exists() -> None:
    for term, *_, code in rows():
        paths = re.findall(r"`([^`]+)`", code)
        assert paths, term
        assert [path for path in paths if not (BASE_DIR / path).is_file()] == [], term


def test_links_to_other_sites_lead_to_the_rfc_that_they_name() -> None:
    text = document("docs/glossary.md")
    found = RFC.findall(text)
    assert found
    assert [names for names in found if names[0] != names[1]] == []
    assert text.count("://") == len(found)
