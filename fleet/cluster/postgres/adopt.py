"""Take over the data of a stack that named its servers by their roles."""

from collections.abc import Callable

from fleet.cluster.errors import ClusterError
from fleet.cluster.paths import Layout


def adopt(layout: Layout, *, say: Callable[[str], None]) -> None:
    """Rename `primary` to `postgres1` and `replicaN` to the one after `N`; no server may run.

    A renamed replica copies the primary again, which has no slot of its new name.
    """
    renames = {"primary": "postgres1"}
    renames |= {f"replica{number}": f"postgres{number + 1}" for number in range(1, 9)}
    for old, new in renames.items():
        source, target = layout.state_dir / old, layout.state_dir / new
        if not (source / "PG_VERSION").exists():
            continue
        if target.exists():
            raise ClusterError(
                f"{source} is a server's data of an earlier release, and {target}, its name of"
                " today, is there too; remove the one that you do not need."
            )
        source.rename(target)
        say(f"renamed {old} to {new}")
