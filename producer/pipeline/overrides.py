"""Change nested frozen settings by dotted keys and texts, as a command line or a table gives them.

`override(settings, {"coordinate.depth": "6"})` reads each text by the annotation of its field:

    int, float, str     6, 5e3, all
    bool                true, false
    Literal             one of its values
    None                none, where the field may be None; switches an encoder off
    tuple               64,128,256; none if empty
    tuple of tuples     coordinate:0.5,aerial:1
"""

import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from unigeo.schemas.errors import ModelError

NONE = "none"
_SEPARATORS = (",", ":")
"""Separators of the elements of a tuple, and of a tuple inside it."""


def override[T](settings: T, changes: Mapping[str, str]) -> T:
    """Return settings with some fields changed, all at once, checked as any new settings are.

    Args:
        settings: a frozen dataclass, whose fields may be such dataclasses.
        changes: values as texts, by dotted key.

    Raises:
        ModelError: naming the key, the nearest known one, and what is allowed; or from the checks
            of the settings.

    >>> from unigeo.producer.training.settings import TrainingSettings
    >>> override(TrainingSettings(), {"steps": "20", "rate": "1e-3"}).steps
    20
    """
    return _changed(settings, settings, "", changes)


def known_keys(settings: Any) -> dict[str, str]:
    """Return every key that can be changed, and its value as text.

    >>> from unigeo.producer.training.settings import TrainingSettings
    >>> known_keys(TrainingSettings(steps=20))["steps"]
    '20'
    """
    known: dict[str, str] = {}
    for name, value in _values(settings).items():
        if is_dataclass(value):
            known |= {f"{name}.{key}": text for key, text in known_keys(value).items()}
        else:
            known[name] = to_text(value)
    return known


def to_text(value: Any) -> str:
    """Return a value as text, which `override` reads back.

    >>> to_text((("coordinate", 0.5), ("aerial", 1.0)))
    'coordinate:0.5,aerial:1'
    """
    return _text(value, _SEPARATORS)


def split_change(text: str) -> tuple[str, str]:
    """Split `key=value`.

    Raises:
        ModelError: if there is no `=`, or nothing before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ModelError(f"a change is written key=value, such as training.steps=500, not {text!r}")
    return key.strip(), value.strip()


def _changed[T](root: Any, settings: T, prefix: str, changes: Mapping[str, str]) -> T:
    """Change one dataclass; `root` and `prefix` are for messages."""
    assert is_dataclass(settings) and not isinstance(settings, type)
    values, hints = _values(settings), _hints(settings)
    inner: dict[str, dict[str, str]] = {}
    new: dict[str, Any] = {}
    for key, text in changes.items():
        name, dot, rest = key.partition(".")
        if name not in hints:
            raise ModelError(_no_such_key(root, prefix, key, list(hints)))
        if dot:
            inner.setdefault(name, {})[rest] = text
        else:
            new[name] = _read(text, hints[name], prefix + name, values[name])
    for name, part in inner.items():
        value = values[name]
        first = f"{prefix}{name}.{next(iter(part))}"
        if name in new:
            raise ModelError(f"{prefix}{name} is set as a whole, so {first} cannot be set too")
        if value is None:
            raise ModelError(f"{prefix}{name} is {NONE} here, so {first} cannot be set")
        if not is_dataclass(value):
            raise ModelError(
                f"there is no setting {first!r}: {prefix}{name} is one value, "
                f"{_allowed(hints[name])}"
            )
        new[name] = _changed(root, value, f"{prefix}{name}.", part)
    try:
        return _with_values(settings, new)
    except ModelError as error:
        where = prefix.rstrip(".")
        if not where or str(error).startswith(f"{where.rpartition('.')[2]}:"):
            raise
        raise ModelError(f"{where}: {error}") from error


def _members(settings: Any) -> str | None:
    """Return the field whose entries count as fields themselves, such as a model's towers."""
    return next((field.name for field in fields(settings) if "members" in field.metadata), None)


def _values(settings: Any) -> dict[str, Any]:
    """Return the value of each field, and of each entry of a field of members."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    group = _members(settings)
    if group is None:
        return values
    possible = next(field for field in fields(settings) if field.name == group).metadata["members"]
    entries = dict.fromkeys(possible) | dict(values.pop(group))
    return entries | values


def _hints(settings: Any) -> dict[str, Any]:
    """Return the annotation of each of `_values`."""
    hints = get_type_hints(type(settings))
    group = _members(settings)
    entry = None if group is None else get_args(hints[group])[1] | None
    return {name: hints.get(name, entry) for name in _values(settings)}


def _with_values[T](settings: T, new: Mapping[str, Any]) -> T:
    """Replace some of `_values`; an entry of a field of members is removed by None."""
    assert is_dataclass(settings) and not isinstance(settings, type)
    group = _members(settings)
    if group is None:
        return replace(settings, **new)
    names = {field.name for field in fields(settings)}
    entries = dict(getattr(settings, group)) | {k: v for k, v in new.items() if k not in names}
    present = {name: value for name, value in entries.items() if value is not None}
    rest = {name: value for name, value in new.items() if name in names}
    return replace(settings, **{group: present}, **rest)


def _no_such_key(root: Any, prefix: str, key: str, names: list[str]) -> str:
    near = difflib.get_close_matches(prefix + key, known_keys(root), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    where = prefix.rstrip(".") or "the top level"
    return f"there is no setting {prefix + key!r}{hint} {where} has {', '.join(names)}"


def _read(text: str, annotation: Any, key: str, value: Any) -> Any:
    """Read a field's value, or raise an error that says what is allowed."""
    optional = type(None) in get_args(annotation)
    is_group = any(is_dataclass(kind) for kind in (annotation, *get_args(annotation)))
    if is_group and not (optional and text == NONE):
        off = f"; {key}={NONE} switches it off" if optional else ""
        if value is None:
            raise ModelError(f"{key} is {NONE} here, and cannot be switched on by {text!r}")
        inside = ", ".join(f"{key}.{field.name}" for field in fields(value))
        raise ModelError(f"{key} is a group of settings; set one of {inside}{off}")
    try:
        return _parsed(text, annotation, _SEPARATORS)
    except ValueError as error:
        raise ModelError(f"{key} must be {_allowed(annotation)}, not {text!r}") from error


def _parsed(text: str, annotation: Any, separators: tuple[str, ...]) -> Any:
    """Read a text as an annotation says; ValueError if it cannot be read so."""
    origin, arms = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        if text == NONE and type(None) in arms:
            return None
        return _first_parsed(text, [arm for arm in arms if arm is not type(None)], separators)
    if origin is Literal:
        return {to_text(value): value for value in arms}[_one_of(text, map(to_text, arms))]
    if origin is tuple:
        parts = [] if text in ("", NONE) else [p.strip() for p in text.split(separators[0])]
        inside = [arms[0]] * len(parts) if arms[1:] == (...,) else list(arms)
        if len(parts) != len(inside):
            raise ValueError(text)
        pairs = zip(parts, inside, strict=True)
        return tuple(_parsed(part, kind, separators[1:]) for part, kind in pairs)
    if annotation is bool:
        return _one_of(text, ("true", "false")) == "true"
    if annotation is float and math.isnan(float(text)):
        raise ValueError(text)
    if annotation in (int, float, str):
        return annotation(text)
    raise ValueError(text)


def _first_parsed(text: str, arms: list[Any], separators: tuple[str, ...]) -> Any:
    """Read a text as the first of several annotations that fits."""
    for arm in arms[:-1]:
        try:
            return _parsed(text, arm, separators)
        except ValueError:
            continue
    return _parsed(text, arms[-1], separators)


def _one_of(text: str, values: Any) -> str:
    if text not in set(values):
        raise ValueError(text)
    return text


def _allowed(
    annotation: Any, plural: bool = False, separators: tuple[str, ...] = _SEPARATORS
) -> str:
    """Describe what may be written for an annotation."""
    origin, arms = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        kinds = [NONE if arm is type(None) else _allowed(arm, plural, separators) for arm in arms]
        return " or ".join(kinds)
    if origin is Literal:
        return f"{'each ' if plural else ''}one of {', '.join(map(to_text, arms))}"
    if origin is tuple and arms[1:] == (...,):
        name = {",": "commas", ":": "colons"}[separators[0]]
        return f"{_allowed(arms[0], True, separators[1:])} with {name} between ({NONE} for no one)"
    if origin is tuple:
        return separators[0].join(_allowed(arm, False, separators[1:]) for arm in arms)
    words = {int: "whole number", float: "number", str: "word", bool: "true or false"}
    word = words.get(annotation, getattr(annotation, "__name__", str(annotation)))
    if annotation is bool:
        return word
    return f"{word}s" if plural else f"a {word}"


def _text(value: Any, separators: tuple[str, ...]) -> str:
    match value:
        case None:
            return NONE
        case bool():
            return "true" if value else "false"
        case np.generic() | np.ndarray():
            return _text(value.tolist(), separators)
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case float():
            short = f"{value:g}"  # six digits, if they are enough to read the value back
            return short if float(short) == value else repr(value)
        case tuple() | list():
            return separators[0].join(_text(part, separators[1:]) for part in value) or NONE
    return str(value)
