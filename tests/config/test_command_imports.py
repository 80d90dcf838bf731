"""The imports of every command of manage.py, which are time that its user waits."""

import subprocess
import sys

from tests.stack_plugin import BASE_DIR

# Half a second and a quarter of one.
SLOW = ("langchain_core", "drf_spectacular.openapi")
SCRIPT = """
import sys, django
django.setup()
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


def test_no_app_imports_what_is_slow_before_it_is_needed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *SLOW],
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
