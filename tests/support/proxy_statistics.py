"""What HAProxy's page of statistics says about the nodes."""

from __future__ import annotations

import httpx


def read_nodes(private_url: str) -> dict[str, dict[str, str]]:
    """Return the row of each slot by its name, and of all together as BACKEND."""
    head, *lines = httpx.get(f"{private_url}/;csv").text.splitlines()
    columns = head.removeprefix("# ").split(",")
    rows = [dict(zip(columns, line.split(","), strict=False)) for line in lines]
    return {row["svname"]: row for row in rows if row["pxname"] == "web"}
