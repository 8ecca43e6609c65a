"""Where a probe is kept: a folder of its own, on this machine."""

import os
from pathlib import Path
from typing import Any

from unigeo.client.probing.table_columns import short
from unigeo.schemas.errors import MissingExtraError, ProbeError, StoreError

FACTS, WEIGHTS = "probe.json", "weights.safetensors"


def check_probe_place(path: Any, overwrite: bool) -> Path:
    """Where a probe is written.

    Raises:
        StoreError: if it is no local folder, or something is there that is not to be replaced: with
            `overwrite` all but a probe, and a probe beside which other files lie.
    """
    from unigeo.schemas.io.stores import refuse_inside_a_store

    safetensors_numpy()
    place = local_folder(path, "write", StoreError)
    if not place.name:
        raise StoreError(f"cannot write a probe to {str(path)!r}: name a folder")
    try:
        refuse_inside_a_store(place, "a probe")
        if not os.path.lexists(place):
            return place
        if not (place / FACTS).is_file():
            raise StoreError(f"{place} is there already and is no probe: name another folder")
        foreign = sorted({own.name for own in place.iterdir()} - {FACTS, WEIGHTS})
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write the probe {short(str(path), 200)}: {error}") from error
    if foreign:
        raise StoreError(
            f"{place} holds more than a probe, such as {short(foreign[0])}, which would be lost: "
            "name another folder"
        )
    if not overwrite:
        raise StoreError(
            f"{place} is there already: allow it to be replaced (overwrite=True, or --overwrite), "
            "or name another folder"
        )
    return place


def local_folder(path: Any, verb: str, error: type[ProbeError] | type[StoreError]) -> Path:
    """The path of a folder on this machine.

    Args:
        path: as given.
        verb: `read` or `write`, for messages.
        error: of which class.

    Raises:
        ProbeError, StoreError: if it is no path, or an address.
    """
    if not isinstance(path, str | os.PathLike):
        raise error(f"cannot {verb} a probe: name its folder, not {short(path)}")
    if "\0" in os.fspath(path):
        raise error(f"cannot {verb} the probe {path!r}: the name holds a null byte")
    if "://" in os.fspath(path):
        raise error(f"cannot {verb} the probe {path}: a probe is a local folder; copy it")
    return Path(path)


def safetensors_numpy() -> Any:
    """What reads and writes weights.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingExtraError(
            "probes are saved by safetensors: pip install 'unigeo[probe]'"
        ) from error
    return safetensors.numpy
