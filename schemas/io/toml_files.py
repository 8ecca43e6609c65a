"""TOML files that a user writes: read, checked, and explained where they are wrong.

An unknown key is answered with the nearest one that is allowed.
"""

import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from unigeo.schemas.errors import UnigeoError


class TomlTable(BaseModel):
    """A table of a file, whose fields are its keys; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_toml(path: Path, what: str, error: type[UnigeoError]) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: of the file.
        what: the kind of file in messages, such as "the suite".
        error: class of the errors.

    Raises:
        UnigeoError: of the class `error`, if there is no such file, or it is not TOML.
    """
    try:
        # Editors of Windows begin a file of UTF-8 with a mark, which TOML does not know.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as cause:
        raise error(f"cannot read {what} {path}: {cause.strerror}. Check the path.") from cause
    except UnicodeDecodeError as cause:
        raise error(
            f"cannot read {what} {path}: it is not TOML, which is written in UTF-8: byte "
            f"{cause.start} is not. Save it as UTF-8."
        ) from cause
    except ValueError as cause:
        raise error(f"cannot read {what} {path}: it is not TOML: {cause}.") from cause


def parse_toml[Table: TomlTable](
    path: Path, model: type[Table], what: str, error: type[UnigeoError]
) -> Table:
    """Read a TOML file into a model, whose fields are values and, one level deep, tables.

    Args:
        path: of the file.
        model: of the whole file.
        what: as in `read_toml`.
        error: as in `read_toml`.

    Raises:
        UnigeoError: of the class `error`; the message names the file, the table and the key, and
            what is allowed.
    """
    raw = read_toml(path, what, error)
    try:
        return model.model_validate(raw)
    except ValidationError as cause:
        faults = [_explain_fault(model, raw, fault) for fault in cause.errors()]
        raise error(f"{path}: " + "; ".join(faults) + ".") from cause


def parse_tables[Table: TomlTable](
    path: Path,
    raw: Mapping[str, Any],
    model: type[Table],
    tables: Mapping[str, Any],
    error: type[UnigeoError],
    *,
    more_keys: Iterable[str] = (),
    hint: str = "",
) -> tuple[Table, dict[str, Any]]:
    """Check a file that `read_toml` read, some of whose tables are named by the user.

    Args:
        path: of the file, for messages.
        raw: content of the file.
        model: of the file without those tables.
        tables: model of each of those tables, or a union of models, by name.
        error: class of the errors.
        more_keys: names of tables that the file may have, for messages.
        hint: what the message of an unknown key says after the allowed ones.

    Returns:
        The file without those tables, and the tables by name.

    Raises:
        UnigeoError: of the class `error`; the message names the file, the table and the key, and
            what is allowed.
    """
    rest = {key: value for key, value in raw.items() if key not in tables}
    faults: list[str] = []
    general, parsed = None, {}
    try:
        general = model.model_validate(rest)
    except ValidationError as cause:
        keys = [*model.model_fields, *more_keys]
        for fault in cause.errors():
            unknown = fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1
            text = _explain_fault(model, rest, fault, keys)
            faults.append(f"{text}, {hint}" if unknown and hint else text)
    for name, kind in tables.items():
        try:
            parsed[name] = TypeAdapter(kind).validate_python(raw[name])
        except ValidationError as cause:
            faults += [_explain_table(kind, name, raw[name], fault) for fault in cause.errors()]
    if general is None or faults:
        raise error(f"{path}: " + "; ".join(faults) + ".")
    return general, parsed


def check_keys(
    table: Any,
    kinds: Mapping[str, Any],
    where: str,
    error: type[UnigeoError],
    needed: Iterable[str] = (),
) -> None:
    """Check the keys of a table, and the types of their values.

    Args:
        table: as it was read.
        kinds: type of each allowed key, or a union of types.
        where: names the file and the table in messages.
        error: class of the errors.
        needed: keys that must be present.

    Raises:
        UnigeoError: of the class `error`, for the first key that is unknown, of another type, or
            missing.
    """
    if not isinstance(table, dict):
        raise error(f"{where} must be a table of keys")
    for key, value in table.items():
        if key not in kinds:
            raise error(_unknown_key(where, key, kinds))
        # Python's bool is an int; in TOML they are different types.
        if not isinstance(value, kinds[key]) or isinstance(value, bool) != (kinds[key] is bool):
            raise error(f"{where}: the key {key!r} cannot be {value!r}")
    for key in needed:
        if key not in table:
            raise error(f"{where} lacks the key {key!r}")


def _unknown_key(where: str, key: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{where} has an unknown key {key!r}{hint}; allowed: {', '.join(allowed)}"


def _explain_fault(
    model: type[BaseModel], raw: dict[str, Any], fault: Any, keys: list[str] | None = None
) -> str:
    """Explain one fault that pydantic found in a file, whose top level may have some keys."""
    path = [str(part) for part in fault["loc"]] or ["file"]
    name = path[0]
    if name in model.model_fields and isinstance(raw.get(name), dict):
        inner = {**fault, "loc": tuple(fault["loc"][1:])}
        return _explain_table(model.model_fields[name].annotation, name, raw[name], inner)
    return _explain(fault, "the top level", path, keys or list(model.model_fields), [], None)


def _explain_table(annotation: Any, name: str, table: Mapping[str, Any], fault: Any) -> str:
    """Explain one fault that pydantic found in a table."""
    path = [str(part) for part in fault["loc"]]
    kind = table.get("kind")
    tables = _models(annotation)
    if len(tables) > 1 and path[:1] == [kind]:
        del path[0]  # pydantic's tag of the union, no key of the file
    return _explain(fault, f"table [{name}]", path, _allowed_keys(tables, kind), tables, kind)


def _explain(
    fault: Any,
    where: str,
    path: list[str],
    allowed: list[str],
    tables: list[type[BaseModel]],
    kind: Any,
) -> str:
    """Say where a fault is, what is wrong, and what is allowed."""
    key = ".".join(path)
    if fault["type"] == "extra_forbidden":
        return _unknown_key(where, key, allowed)
    if fault["type"] == "missing" and isinstance(fault["loc"][-1], int):
        return f"{where}, key {'.'.join(path[:-1])!r}: there are too few values"
    if fault["type"] == "missing":
        return f"{where} lacks the key {key!r}; allowed: {', '.join(allowed)}"
    if fault["type"].startswith("union_tag"):
        expected = fault["ctx"].get("expected_tags") or ", ".join(map(repr, _kinds(tables)))
        return f"{where}, key 'kind': one of {expected} is needed, not {kind!r}"
    message = re.sub("^(Input|Value error, )", "", fault["msg"]).strip()
    message = re.sub("valid (tuple|list)", "list", message)
    message = re.sub(r"valid dictionary( or instance of \w+)?", "table", message)
    if fault["type"] == "too_short":
        message = "at least one value is needed"
    value = "" if fault["type"] == "value_error" else f", not {fault['input']!r:.60}"
    return f"{where}, key {key!r}: {message}{value}"


def _allowed_keys(tables: list[type[BaseModel]], kind: str | None) -> list[str]:
    """List the keys that a table may have: of its kind, or of all kinds where it names none."""
    of_kind = [
        table for table in tables if "kind" not in table.model_fields or kind in _kinds([table])
    ]
    return list(dict.fromkeys(key for table in of_kind or tables for key in table.model_fields))


def _kinds(tables: list[type[BaseModel]]) -> list[str]:
    """List the values that the key `kind` may have."""
    fields = [table.model_fields["kind"] for table in tables if "kind" in table.model_fields]
    return [kind for field in fields for kind in typing.get_args(field.annotation)]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """List the pydantic models in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []
