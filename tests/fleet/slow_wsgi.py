"""The stack's own application, for nodes that can be made to fail.

A node named in `STATE_DIR/broken` does not start, as with new code that is wrong.
"""

import os
from pathlib import Path

BROKEN = Path(os.environ["STATE_DIR"]) / "broken"

if BROKEN.exists() and os.environ["NODE_NAME"] in BROKEN.read_text(encoding="ascii").split():
    raise RuntimeError("this release is broken")

from config.wsgi import application  # noqa: E402, F401
