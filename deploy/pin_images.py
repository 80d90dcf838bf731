#!/usr/bin/env python3
"""Pin the images of others to their digests: `pin_images.py > .env`, and `pin_images.py --check`.

A tag may be another image tomorrow; a digest never is. Which digest a tag has, only its registry
knows, so this queries it with `docker buildx imagetools` and writes one line for each variable of
docker-compose.yml, docker-compose.override.yml and Dockerfile. With `--check` it queries no
registry, and fails unless each variable of the environment or of the file `.env` has a digest.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("docker-compose.yml", "docker-compose.override.yml")
# Built here, not pulled.
OWN = re.compile(r"HEADRACE_\w*IMAGE")
DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


def images() -> dict[str, str]:
    """Return the images of others by the variables that name them, with their tags."""
    found = {}
    for name in FILES:
        text = (ROOT / name).read_text(encoding="utf-8")
        for variable, image in re.findall(r"\$\{(\w*IMAGE):-([^}]+)\}", text):
            if not OWN.fullmatch(variable):
                found[variable] = image
    return found


def read_env(path: Path) -> dict[str, str]:
    """Return the `NAME=value` lines of a file; none if there is no file."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))


def resolve(image: str) -> str:
    """Return an image with its digest, from the registry."""
    command = ["docker", "buildx", "imagetools", "inspect", image]
    command += ["--format", "{{.Manifest.Digest}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    pinned = f"{image.partition('@')[0]}@{done.stdout.strip()}"
    if done.returncode or not DIGEST.fullmatch(pinned):
        sys.exit(f"{image}: {done.stderr.strip() or 'the registry has no digest'}")
    return pinned


def main() -> None:
    """Print the lines, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Fail where an image has no digest.")
    parser.add_argument("--env-file", type=Path, default=ROOT / ".env")
    options = parser.parse_args()
    if not options.check:
        for variable, image in sorted(images().items()):
            print(f"{variable}={resolve(image)}")
        return
    given = {**read_env(options.env_file), **os.environ}
    loose = [name for name in sorted(images()) if not DIGEST.fullmatch(given.get(name, ""))]
    if loose:
        sys.exit(f"No digest: {', '.join(loose)}. Put the lines of deploy/pin_images.py into .env.")


if __name__ == "__main__":
    main()
