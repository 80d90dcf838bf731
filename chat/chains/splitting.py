"""Cut a text into parts, at paragraphs and sentences where there are any."""

from collections.abc import Iterator

# In the order of preference.
SEPARATORS = ("\n\n", "\n", ". ", "。", " ")


def split(text: str, size: int) -> Iterator[str]:
    """Yield the parts of a text, each of at most `size` characters, without white space around.

    A part is at least half as long, so that no text has more parts than twice its length by the
    size. Each character of any text is read a few times at most.
    """
    begin = 0
    while begin < len(text):
        end = _end(text, begin, size)
        if part := text[begin:end].strip():
            yield part
        begin = end


def _end(text: str, begin: int, size: int) -> int:
    last = begin + size
    if last >= len(text):
        return len(text)
    for separator in SEPARATORS:
        found = text.rfind(separator, begin + size // 2, last)
        if found != -1:
            return found + len(separator)
    return last
