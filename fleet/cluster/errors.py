"""The errors of the embedded stack; the command shows their text as it is."""

import errno

# What a write says where a disk, or an allowance on it, is full.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class ClusterError(Exception):
    """The stack cannot start, or cannot go on. The text is one sentence for a person."""


class ProcessFailed(ClusterError):
    """A process never got ready, or fails repeatedly; `process` names it, and its log says why."""

    def __init__(self, process: str, message: str) -> None:
        super().__init__(message)
        self.process = process


class StopRequested(Exception):
    """A signal, or `cluster down`, arrived while the stack was still starting."""
