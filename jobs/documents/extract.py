"""Print a PDF's text: `python -I extract.py PATH MAX_PAGES MAX_CHARS SECONDS`.

A process of its own, because reading a PDF is work for the processor, and a hostile one can make it
endless; a node's event loop must not wait for either. It imports nothing of Headrace or Django, so
that it starts quickly. Prints `{"text": ..., "pages": ...}` or `{"error": CODE}`, as UTF-8 JSON.
"""

import json
import math
import os
import resource
import sys
from typing import Any

MAX_MEMORY_BYTES = 1024 * 1024 * 1024


def main() -> None:
    """Read the PDF named by the arguments."""
    path, max_pages, max_chars, seconds = sys.argv[1:]
    _limit(float(seconds))
    answer = read_pdf(path, max_pages=int(max_pages), max_chars=int(max_chars))
    sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode())


def read_pdf(path: str, *, max_pages: int, max_chars: int) -> dict[str, Any]:
    """Return the text and the number of pages, or the code of what is wrong."""
    # Imported once memory is bounded.
    from pypdf import PdfReader  # noqa: PLC0415
    from pypdf.errors import (  # noqa: PLC0415
        DependencyError,
        FileNotDecryptedError,
        LimitReachedError,
    )

    try:
        reader = PdfReader(path)
        # Many PDFs are encrypted with the empty password, and open for everybody.
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
    except (LimitReachedError, MemoryError):
        return {"error": "document_unreadable"}
    # pypdf meets whatever a file holds, and raises whatever comes of it.
    except Exception:
        return {"error": "document_damaged"}
    if not texts:
        return {"error": "document_damaged"}
    if not any(text.strip() for text in texts):
        return {"error": "document_has_no_text"}
    return {"text": "\n\n".join(texts), "pages": len(texts)}


def _limit(seconds: float) -> None:
    # The node that waits for it has requests to answer.
    os.nice(5)
    # Processor time: on a busy machine the document is not to blame for what the clock says.
    cpu_seconds = math.ceil(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _without_lone_surrogates(text: str) -> str:
    """Join the pairs that some fonts' tables leave apart; half a pair is no character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


if __name__ == "__main__":
    main()
