"""An entry ready to be sent many times."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scaling.response_cache.entry import Entry


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entry whose body is cut where each answer has something of its own.

    `pieces` alternate with places: what stands there is the number in `places`, an index of the
    entry's `renewed` texts.
    """

    entry: Entry
    pieces: tuple[bytes, ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, entry: Entry) -> Prepared:
        """Cut an entry's body."""
        # An empty text would be found between any two bytes.
        texts = [(text.encode(), place) for place, text in enumerate(entry.renewed) if text]
        if not texts:
            return cls(entry, (entry.body,), ())
        pattern = b"|".join(b"(%b)" % re.escape(text) for text, _ in texts)
        pieces, places, at = [], [], 0
        for match in re.finditer(pattern, entry.body):
            pieces.append(entry.body[at : match.start()])
            places.append(texts[(match.lastindex or 1) - 1][1])
            at = match.end()
        pieces.append(entry.body[at:])
        return cls(entry, tuple(pieces), tuple(places))

    def render(self, *renewed: bytes) -> bytes:
        """Return the body with these texts in place of the entry's `renewed` ones."""
        if not self.places:
            return self.entry.body
        parts = [self.pieces[0]]
        for place, piece in zip(self.places, self.pieces[1:], strict=True):
            parts += (renewed[place], piece)
        return b"".join(parts)

    @property
    def size(self) -> int:
        """Return about how many bytes of memory it takes."""
        return 2 * len(self.entry.body) + 64 * len(self.pieces) + 1024
