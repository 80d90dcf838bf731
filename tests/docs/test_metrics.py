"""The reference of metrics says what the code measures."""

from __future__ import annotations

import ast
import re

from prometheus_client import Counter, Gauge, Histogram

from tests.docs.source import called, calls, imported, keyword, text_of
from tests.docs.texts import bare, document, entries, unique

METRIC_KINDS = {
    "Counter": Counter,
    "CounterMetricFamily": Counter,
    "Gauge": Gauge,
    "GaugeMetricFamily": Gauge,
    "Histogram": Histogram,
}


def metrics_defined() -> dict[str, tuple[str, set[str]]]:
    """Return the metrics by their exported names, with kind and labels."""
    found = {}
    for path, call in calls(set(METRIC_KINDS)):
        # The standard library has a Counter too.
        if isinstance(call.func, ast.Name) and called(call) in imported(path, "collections"):
            continue
        name = text_of(call.args[0])
        assert name is not None, f"{path}:{call.lineno} hides the name of a metric"
        labels = call.args[2] if len(call.args) > 2 else None
        labels = labels or keyword(call, "labelnames") or keyword(call, "labels")
        kind = METRIC_KINDS[called(call)]
        # prometheus_client itself says what it adds to a name.
        exported = name + ("_total" if kind is Counter else "")
        assert exported not in found, f"{exported} is defined twice"
        names = set(ast.literal_eval(labels)) if labels else set()
        found[exported] = (kind.__name__.lower(), names)
    return found


def test_every_metric_has_a_row_and_every_row_a_metric() -> None:
    rows = entries(document("docs/reference/metrics.md"))
    unique([bare(row[0]) for row in rows])
    documented = {bare(row[0]): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows}
    assert documented == metrics_defined()
