"""Print the tests that failed in pytest's last run, one a line."""

import json
import sys
from pathlib import Path

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")

if LAST_FAILED.exists():
    names = json.loads(LAST_FAILED.read_text(encoding="utf-8"))
    sys.stdout.writelines(f"{name}\n" for name in names)
