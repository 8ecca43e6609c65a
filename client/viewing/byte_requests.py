"""The header `Range` of a request, and the part of an object that it asks for."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class ByteRequest:
    """One range of bytes."""

    start: int | None
    """First byte; None counts from the end."""
    end: int | None
    """Last byte; None is the object's last. Without a start, the number of bytes at the end."""

    def within(self, size: int) -> tuple[int, int]:
        """Return the first byte and the one after the last, of an object of this size."""
        if self.start is None:
            return max(size - (self.end or 0), 0), size
        return self.start, size if self.end is None else min(self.end + 1, size)


def read_range(header: str | None) -> ByteRequest | None:
    """Return the range that a header asks for; None asks for the whole object.

    A header that is malformed, or asks for several ranges, is ignored (RFC 9110, section 14.2).

    >>> read_range("bytes=0-99"), read_range("bytes=-4"), read_range("bytes=5-2")
    (ByteRequest(start=0, end=99), ByteRequest(start=None, end=4), None)
    """
    found = _RANGE.fullmatch((header or "").replace(" ", ""))
    if found is None:
        return None
    first, last = (int(digits) if digits else None for digits in found.groups())
    if first is None and last is None:
        return None
    if first is not None and last is not None and last < first:
        return None
    return ByteRequest(first, last)
