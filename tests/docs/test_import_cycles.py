"""No module imports itself in a circle, also not by an import within a function."""

from __future__ import annotations

from graphlib import TopologicalSorter

from grimp import build_graph

from tests.docs.source import PACKAGES


def test_imports_have_no_circles() -> None:
    graph = build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=True)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert "jobs.queue.messages" in imports["jobs.worker.tasks"]
    # Raises CycleError with the circle.
    TopologicalSorter(imports).prepare()
