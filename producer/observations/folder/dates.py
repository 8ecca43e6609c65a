"""Dates as users write them: a year, a month, a day, a time, or a range from one to another.

>>> span("2004-07")
(datetime.date(2004, 7, 1), datetime.date(2004, 7, 31))
>>> span("2004/2006")[1]
datetime.date(2006, 12, 31)
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

EPOCH = date(1970, 1, 1)
FIRST_YEAR, LAST_YEAR = 1800, 2199
"""Years in which an observation may lie."""
FORMS = "2004, 2004-07, 2004-07-15, or from one to another: 2004/2006"
_YEAR = re.compile(r"\d{4}")
_MONTH = re.compile(r"(\d{4})-(\d\d)")
_IN_TEXT = re.compile(r"(?<!\d)(?:19|20)\d\d(?:-\d\d(?!\d))?(?:-\d\d(?!\d))?(?!\d)")


def span(text: str) -> tuple[date, date]:
    """Return the first and last day of a date.

    Raises:
        ValueError: the text is no date; the message names the accepted forms.
    """
    parts = text.split("/")
    try:
        if len(parts) > 2:
            raise ValueError
        first, last = _days(parts[0]), _days(parts[-1])
    except ValueError:
        raise ValueError(f"{text!r} is no date; write {FORMS}") from None
    if last[1] < first[0]:
        raise ValueError(f"{text!r} ends before it begins; write the earlier date first")
    return first[0], last[1]


def days(text: str) -> tuple[float, float]:
    """Return begin and end of a date in days since 1970, UTC; both are equal for a time.

    Raises:
        ValueError: the text is no date.
    """
    span(text)
    ends = [_days_since_1970(part) for part in text.split("/")]
    return ends[0][0], ends[-1][1]


def years(text: str) -> range:
    """Return every year that a date touches; none for an empty text.

    Raises:
        ValueError: the text is no date.
    """
    if not text:
        return range(0)
    first, last = span(text)
    return range(first.year, last.year + 1)


def to_days(text: str) -> str:
    """Drop the time of day from a date.

    >>> to_days("2004-07-15T10:30:00Z")
    '2004-07-15'
    """
    return "/".join(part[:10] for part in text.split("/"))


def day_or_none(value: Any) -> str:
    """Return the day that a camera or a service states; empty for none, such as 0000-00-00."""
    text = str(value or "").strip()[:10]
    try:
        span(text)
    except ValueError:
        return ""
    return text


def spans_in(text: str) -> list[tuple[date, date]]:
    """Return the first and last day of every date in a free text.

    >>> len(spans_in("2017 to 2024-06, without 2023"))
    3

    Raises:
        ValueError: a part of the text looks like a date and is none.
    """
    return [span(match) for match in _IN_TEXT.findall(text)]


def _days(text: str) -> tuple[date, date]:
    """Return the first and last day of a year, a month, a day or a time."""
    if _YEAR.fullmatch(text):
        first, last = date(int(text), 1, 1), date(int(text), 12, 31)
    elif month := _MONTH.fullmatch(text):
        first = date(int(month[1]), int(month[2]), 1)
        last = (first + timedelta(31)).replace(day=1) - timedelta(1)  # last of the month
    else:
        first = last = datetime.fromisoformat(text).date()
    if not FIRST_YEAR <= first.year <= LAST_YEAR:
        raise ValueError
    return first, last


def _days_since_1970(text: str) -> tuple[float, float]:
    first, last = _days(text)
    if "T" not in text and " " not in text:
        return float((first - EPOCH).days), float((last - EPOCH).days)
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment.timestamp() / 86_400,) * 2


def _as_text(value: Any) -> Any:
    """Turn TOML's own numbers and dates into text."""
    if isinstance(value, bool | time):  # bool is an int, too
        raise ValueError(f"{value!r} is no date; write {FORMS}")
    if isinstance(value, int):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value


def _check_date(text: str) -> str:
    if text:
        span(text)
    return text


def _check_dates_in_text(text: str) -> str:
    """Check the dates in a text; if the text is a range, it must not end before it begins."""
    spans_in(text)
    parts = text.split("/")
    if len(parts) == 2 and all(_IN_TEXT.fullmatch(part.strip()) for part in parts):
        span("/".join(part.strip() for part in parts))
    return text


Dated = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_date)]
"""A date or an empty text; TOML's own numbers and dates are accepted too."""
DatedText = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_dates_in_text)]
"""Free text that may contain dates."""
