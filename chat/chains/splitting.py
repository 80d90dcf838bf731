"""Cut a text into parts, at paragraphs and sentences where there are any."""

from collections.abc import Iterator

# In the order of preference.
SEPARATORS = ("\n\n", "\n", ". ", "。", " ")
# The tokens of a character, in those of a letter of English, by the length of its UTF-8: a token is
# some four letters, half a word of Greek or Arabic, one Chinese character, or half an emoji.
WEIGHTS = (1, 2, 4, 8)


def weight(text: str) -> int:
    """Return an estimate of a text's tokens, as the number of letters of English with as many."""
    if text.isascii():
        return len(text)
    return sum(map(_weight_of, text))


def split(text: str, size: int) -> Iterator[str]:
    """Yield the parts of a text, each of a weight of at most `size`, without white space around.

    A part is at least half as long as it may be, so that no text has more parts than twice its
    weight by the size. Each character of any text is read a few times at most.
    """
    begin = 0
    while begin < len(text):
        end = _end(text, begin, size)
        if part := text[begin:end].strip():
            yield part
        begin = end


def _end(text: str, begin: int, size: int) -> int:
    last = _last(text, begin, size)
    if last >= len(text):
        return len(text)
    for separator in SEPARATORS:
        found = text.rfind(separator, (begin + last) // 2, last)
        if found != -1:
            return found + len(separator)
    return last


def _last(text: str, begin: int, size: int) -> int:
    """Return the end of the longest part from `begin` that is not too heavy."""
    longest = text[begin : begin + size]
    if longest.isascii():
        return begin + size
    left = size
    for index, char in enumerate(longest):
        left -= _weight_of(char)
        if left < 0:
            return begin + max(1, index)
    return begin + size


def _weight_of(char: str) -> int:
    code = ord(char)
    return WEIGHTS[(code >= 0x80) + (code >= 0x800) + (code >= 0x10000)]
