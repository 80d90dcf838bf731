"""A cached response as a template: its body with slots for the volatile texts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scaling.response_cache.entry import Entry


@dataclass(frozen=True, slots=True)
class ResponseTemplate:
    """An entry whose body is cut at its volatile texts.

    `segments` alternate with slots. The number in `slots` is the index of the text that goes there
    among the entry's `volatile_texts`.
    """

    entry: Entry
    segments: tuple[bytes, ...]
    slots: tuple[int, ...]

    @classmethod
    def of(cls, entry: Entry) -> ResponseTemplate:
        """Cut an entry's body."""
        # An empty text would be found between any two bytes.
        texts = [(text.encode(), slot) for slot, text in enumerate(entry.volatile_texts) if text]
        if not texts:
            return cls(entry, (entry.body,), ())
        pattern = b"|".join(b"(%b)" % re.escape(text) for text, _ in texts)
        segments, slots, at = [], [], 0
        for match in re.finditer(pattern, entry.body):
            segments.append(entry.body[at : match.start()])
            slots.append(texts[(match.lastindex or 1) - 1][1])
            at = match.end()
        segments.append(entry.body[at:])
        return cls(entry, tuple(segments), tuple(slots))

    def render(self, *volatile_texts: bytes) -> bytes:
        """Return the body with these texts in place of the entry's `volatile_texts`."""
        if not self.slots:
            return self.entry.body
        parts = [self.segments[0]]
        for slot, segment in zip(self.slots, self.segments[1:], strict=True):
            parts += (volatile_texts[slot], segment)
        return b"".join(parts)

    @property
    def size(self) -> int:
        """Return about how many bytes of memory it takes."""
        return 2 * len(self.entry.body) + 64 * len(self.segments) + 1024
