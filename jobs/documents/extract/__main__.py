"""Print the text of the PDF at standard input, within limits of its own.

`python -I extract MAX_PAGES MAX_CHARS CPU_SECONDS MEMORY_BYTES NICE < PDF`. A process of its own,
because reading a PDF is work for the processor, and a hostile one can make it endless; a node's
event loop must not wait for either. It imports nothing of Headrace or Django but this package, so
that it starts in 0.15 s, most of it pypdf. Prints `{"text": ..., "pages": ...,
"pages_incomplete": ...}`, `{"error": CODE}` or `{"over": LIMIT}` as UTF-8 JSON, with `cpu_seconds`.
"""

import json
import os
import sys
import time
from pathlib import Path

# Behind the packages, so that no file of the project hides one of theirs.
sys.path.append(str(Path(__file__).parents[3]))

from jobs.documents.extract.limits import limit


def main() -> None:
    """Read the PDF within the limits named by the arguments."""
    max_pages, max_chars, cpu_seconds, memory_bytes, nice = map(int, sys.argv[1:])
    limit(cpu_seconds=cpu_seconds, memory_bytes=memory_bytes, nice=nice)
    # The position in the file is the node's, which shares it.
    raw = os.pread(0, os.fstat(0).st_size, 0)
    # Imported once memory is bounded.
    from jobs.documents.extract.document import read_pdf  # noqa: PLC0415

    answer = read_pdf(raw, max_pages=max_pages, max_chars=max_chars)
    answer["cpu_seconds"] = time.process_time()
    sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode())


if __name__ == "__main__":
    main()
