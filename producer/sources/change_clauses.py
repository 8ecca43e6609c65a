"""Clauses that name what differs between two descriptions, for one sentence."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def describe_settings(
    before: Mapping[str, Any], after: Mapping[str, Any], table: str = ""
) -> list[str]:
    """Describe each key that differs by a clause; keys of tables have the table's name in front."""
    clauses = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        name = f"{table}.{key}" if table else key
        if isinstance(old, dict) and isinstance(new, dict):
            clauses += describe_settings(old, new, name)
        elif old != new:
            shown = ["none" if one is None else json.dumps(one)[:80] for one in (old, new)]
            clauses.append(f"{name} was {shown[0]} and is {shown[1]}")
    return clauses


def join_clauses(clauses: Sequence[str], limit: int = 5) -> str:
    """Join the first few clauses, and state how many more there are."""
    more = f"; and {len(clauses) - limit:,} more" if len(clauses) > limit else ""
    return "; ".join(clauses[:limit]) + more
