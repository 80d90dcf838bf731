"""supervisord, which goes on when the disk of its logs is full: `python -m` this module.

supervisord prints the failure of a log to its stderr, which is a file on the same disk, and ends
with all processes when that fails too.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

from supervisor import loggers, supervisord


class LossyStream:
    """A stream that loses what cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be written."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def fileno(self) -> int:
        """Return the file's number."""
        return self._stream.fileno()


class PatientRotatingFileHandler(loggers.RotatingFileHandler):  # type: ignore[misc]
    """A log whose rotation may fail; supervisord would close the process's stdout for good."""

    def doRollover(self) -> None:
        """Rotate, or go on with the same file."""
        try:
            super().doRollover()
        # A ValueError: an earlier rotation left the file closed.
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                self.stream = open(self.baseFilename, self.mode)  # noqa: SIM115


if __name__ == "__main__":
    sys.stderr = LossyStream(sys.stderr)
    loggers.RotatingFileHandler = PatientRotatingFileHandler
    supervisord.main()
