"""The servers of a stack in their roles, and the files by which all processes know them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from fleet.cluster.credentials import Credentials
from fleet.cluster.errors import ClusterError
from fleet.cluster.paths import Layout, write_private
from fleet.cluster.ports import address
from fleet.cluster.postgres.primary import Primary
from fleet.cluster.postgres.replica import Replica
from fleet.cluster.postgres.server import Server
from fleet.cluster.postgres.topology import Topology
from fleet.cluster.processes import ProcessSpec


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Every server of a stack; `ports` has one for each name of the topology, perhaps more."""

    layout: Layout
    credentials: Credentials
    bin_dir: Path
    topology: Topology
    ports: Mapping[str, int]

    @property
    def primary(self) -> Primary:
        """The server that takes the writes."""
        return Primary(
            id=self._id(self.topology.primary, "primary"),
            layout=self.layout,
            credentials=self.credentials,
            bin_dir=self.bin_dir,
        )

    @property
    def replicas(self) -> list[Replica]:
        """The servers that follow it."""
        return [self.replica(name) for name in self.topology.replicas]

    def replica(self, name: str, *, primary: Server | None = None) -> Replica:
        """Return a server as a replica of the primary, or of another server."""
        return Replica(
            id=self._id(name, "replica"),
            layout=self.layout,
            credentials=self.credentials,
            bin_dir=self.bin_dir,
            primary=primary or self.primary,
        )

    def changed(self, topology: Topology, *, ports: Mapping[str, int] | None = None) -> Self:
        """Return the servers in other roles, with addresses of new ones."""
        return replace(self, topology=topology, ports={**self.ports, **(ports or {})})

    def check_data(self) -> None:
        """Raise `ClusterError` when the primary's data are gone, and only replicas have them.

        A new primary would be empty, and the replicas would copy that.
        """
        if self.primary.has_data:
            return
        if others := sorted(self.layout.state_dir.glob("postgres*/PG_VERSION")):
            raise ClusterError(
                f"{self.primary.data_dir}, the primary's data, is lost, but {others[0].parent} is"
                f" there; write the name of the server with your data as primary into"
                f" {self.layout.topology_file}, or remove {self.layout.state_dir} to start empty."
            )

    def publish(self, *, without: frozenset[str] = frozenset()) -> None:
        """Write the files that every process of the stack watches: the primary's URL first.

        `without` leaves replicas out that cannot be read yet.
        """
        write_private(self.layout.database_url_file, self.primary.url() + "\n")
        lines = [
            f"{replica.id.name}={replica.url()}\n"
            for replica in self.replicas
            if replica.id.name not in without
        ]
        write_private(self.layout.replica_urls_file, "".join(lines))

    def _id(self, name: str, kind: str) -> ProcessSpec:
        return ProcessSpec(name=name, kind=kind, address=address(self.ports[name]))
