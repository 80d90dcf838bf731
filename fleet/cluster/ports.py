"""Choose the addresses of the processes."""

import random
import socket

from fleet.cluster.errors import ClusterError

HOST = "127.0.0.1"
# Below the range from which Linux takes the ports of outgoing connections (32768 and up): while a
# killed process is being restarted, no connection of another program may sit on its port.
FREE_PORTS = range(20000, 32768)


def free_ports(count: int, *, avoid: set[int]) -> list[int]:
    """Return that many ports on which nothing listens now, chosen at random.

    Random, because two stacks that start at the same moment must not choose alike.
    """
    chosen: list[int] = []
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        if len(chosen) == count:
            return chosen
        if port not in avoid and is_free(port):
            chosen.append(port)
    raise ClusterError(f"no free port between {FREE_PORTS.start} and {FREE_PORTS.stop}")


def is_free(port: int) -> bool:
    """Return whether a server could bind the port on the loopback address."""
    with socket.socket() as probe:
        # Connections that were closed a moment ago do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError as error:
            raise ClusterError(f"port {port} needs root; choose one above 1023") from error
        except OSError:
            return False
    return True


def require_free(port: int, *, setting: str) -> None:
    """Raise `ClusterError` with a way out when a fixed port is taken."""
    if not is_free(port):
        raise ClusterError(
            f"Port {port} is taken by another program; stop it, or choose another port with "
            f"{setting}, as in {setting}={port + 10}."
        )


def address(port: int) -> str:
    """Return `host:port`."""
    return f"{HOST}:{port}"
