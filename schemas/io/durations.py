"""Estimated times, written for people."""


def format_duration(seconds: float) -> str:
    """Write a time in round numbers.

    >>> [format_duration(seconds) for seconds in (0.2, 42.0, 700.0, 9_000.0, 300_000.0)]
    ['1 s', '40 s', '12 min', '2.5 h', '3.5 days']
    """
    if seconds < 95:
        return f"{max(seconds, 1.0):.0f} s" if seconds < 10 else f"{round(seconds, -1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:,.1f} days"
