"""The log shows where an error came from, and not what it quotes."""

from __future__ import annotations

import logging
import sys

from django.db import DataError, OperationalError

from config.logs import LineFormatter, logging_config


def formatted(error: BaseException) -> str:
    """Return an exception as it stands in the log."""
    try:
        raise error
    except BaseException:
        return LineFormatter().formatException(sys.exc_info())


def test_a_stack_has_the_classes_of_all_causes_and_no_text() -> None:
    error = LookupError("private")
    error.__cause__ = DataError("private")
    error.__cause__.__context__ = KeyError("private")
    text = formatted(error)
    assert "private" not in text
    kinds = [line for line in text.splitlines() if line.endswith(("Error", "LookupError"))]
    assert kinds == ["KeyError", "django.db.utils.DataError", "LookupError"]
    assert 'test_logs.py", line' in text


def test_a_context_that_was_replaced_is_not_shown() -> None:
    error = ValueError("private")
    error.__context__ = KeyError("private")
    error.__suppress_context__ = True
    assert "KeyError" not in formatted(error)


def test_errors_in_a_circle_end() -> None:
    one, two = ValueError(), KeyError()
    one.__context__, two.__context__ = two, one
    assert formatted(one).count("Traceback") == 10


def test_a_message_names_an_error_of_the_database_without_its_text() -> None:
    def line(error: Exception) -> str:
        record = logging.LogRecord("x", logging.WARNING, "x", 1, "%s: %s", ("job 1", error), None)
        return LineFormatter("%(message)s").format(record)

    assert line(DataError("private")) == "job 1: django.db.utils.DataError"
    assert (
        line(OperationalError("no server")) == "job 1: django.db.utils.OperationalError: no server"
    )
    assert line(ValueError("ours")) == "job 1: ours"


def test_the_systems_own_texts_are_shown() -> None:
    assert formatted(ConnectionRefusedError(111, "refused")).endswith("[Errno 111] refused")
    assert formatted(OperationalError("no server")).endswith("OperationalError: no server")


def test_texts_are_shown_where_a_setting_says_so() -> None:
    line = logging_config("INFO", shows_error_texts=True)["formatters"]["line"]
    assert "class" not in line
    assert logging.Formatter(line["format"])
