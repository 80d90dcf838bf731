"""Print the text of the PDF at standard input, within limits of its own.

`python -I extract.py MAX_PAGES MAX_CHARS CPU_SECONDS MEMORY_BYTES NICE < PDF`. A process of its
own, because reading a PDF is work for the processor, and a hostile one can make it endless; a
node's event loop must not wait for either. It imports nothing of Headrace or Django, so that it
starts in 0.15 s, most of it pypdf. Prints `{"text": ..., "pages": ...}`, `{"error": CODE}` or
`{"over": LIMIT}` as UTF-8 JSON, with `cpu_seconds`.
"""

import contextlib
import ctypes
import io
import json
import os
import resource
import signal
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
# The document, the answer and /dev/null.
INHERITED_FILES = 3
# Files that pypdf opens when it is imported.
MAX_FILES = 32


def main() -> None:
    """Read the PDF within the limits named by the arguments."""
    max_pages, max_chars, cpu_seconds, memory_bytes, nice = map(int, sys.argv[1:])
    limit(cpu_seconds=cpu_seconds, memory_bytes=memory_bytes, nice=nice)
    # The position in the file is the node's, which shares it.
    raw = os.pread(0, os.fstat(0).st_size, 0)
    answer = read_pdf(raw, max_pages=max_pages, max_chars=max_chars)
    answer["cpu_seconds"] = time.process_time()
    sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode())


def read_pdf(raw: bytes, *, max_pages: int, max_chars: int) -> dict[str, Any]:
    """Return the text and the number of pages, or the code of the fault."""
    # Imported once memory is bounded.
    from pypdf import PdfReader  # noqa: PLC0415
    from pypdf.errors import (  # noqa: PLC0415
        DependencyError,
        FileNotDecryptedError,
        LimitReachedError,
    )

    try:
        reader = PdfReader(io.BytesIO(raw))
        # Many PDFs are encrypted with the empty password, and open without one.
        if reader.is_encrypted and not reader.decrypt(""):
            return {"error": "document_encrypted"}
        if len(reader.pages) > max_pages:
            return {"error": "document_too_many_pages"}
        texts, length = [], 0
        for page in reader.pages:
            texts.append(_without_lone_surrogates(page.extract_text()))
            length += len(texts[-1])
            if length > max_chars:
                return {"error": "document_text_too_long"}
    # DependencyError is an encryption that this machine has no package for.
    except (FileNotDecryptedError, DependencyError, NotImplementedError):
        return {"error": "document_encrypted"}
    except MemoryError:
        return {"over": "memory"}
    except LimitReachedError:
        return {"error": "document_unreadable"}
    # pypdf reads arbitrary bytes, and raises errors of any kind.
    except Exception:
        return {"error": "document_damaged"}
    if not texts:
        return {"error": "document_damaged"}
    if not any(text.strip() for text in texts):
        return {"error": "document_has_no_text"}
    return {"text": "\n\n".join(texts), "pages": len(texts)}


def limit(*, cpu_seconds: int, memory_bytes: int, nice: int) -> None:
    """Bound this process's resources, and drop privileges that it does not need."""
    libc = ctypes.CDLL(None)
    # A node that is killed leaves no reader behind.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for name in os.listdir("/proc/self/fd"):
        # The listing's own is closed by now.
        if int(name) >= INHERITED_FILES:
            with contextlib.suppress(OSError):
                os.close(int(name))
    # The node that waits for it has requests to answer.
    os.nice(nice)
    # In a container without memory the kernel is to end this process, and not the node.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    # Processor time: on a busy machine the document is not to blame for the clock time.
    # At the first limit the process ends by SIGXCPU, which distinguishes it from other ends.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _without_lone_surrogates(text: str) -> str:
    """Join the pairs that some fonts' tables leave apart; half a pair is no character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


if __name__ == "__main__":
    main()
