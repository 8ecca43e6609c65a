"""Checks of the local folder that a probe is saved in."""

import os
from pathlib import Path
from typing import Any

from unigeo.client.probing.table_columns import short
from unigeo.schemas.errors import MissingExtraError, ProbeError, StoreError

FACTS, WEIGHTS = "probe.json", "weights.safetensors"
"""Files of a saved probe: its description, and the arrays of its models."""


def check_probe_path(path: Any, overwrite: bool) -> Path:
    """Refuse a path that no probe can be saved to, before any model is fitted.

    Returns:
        The folder.

    Raises:
        StoreError: if the path is no local folder, or something exists there that must not be
            replaced: anything without `overwrite`; with it all but a probe, and a probe beside
            which other files lie.
    """
    from unigeo.schemas.io.addresses import check_destination

    safetensors_numpy()
    folder = local_folder(path, "write", StoreError)
    if not folder.name:
        raise StoreError(f"cannot write a probe to {str(path)!r}: name a folder")
    try:
        check_destination(folder, f"the probe {short(str(path), 200)}", makes_folders=True)
        if not os.path.lexists(folder):
            return folder
        if not (folder / FACTS).is_file():
            raise StoreError(f"{folder} is there already and is no probe: name another folder")
        foreign = sorted({file.name for file in folder.iterdir()} - {FACTS, WEIGHTS})
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write the probe {short(str(path), 200)}: {error}") from error
    if foreign:
        raise StoreError(
            f"{folder} holds more than a probe, such as {short(foreign[0])}, which would be lost: "
            "name another folder"
        )
    if not overwrite:
        raise StoreError(
            f"{folder} is there already: allow it to be replaced (overwrite=True, or --overwrite), "
            "or name another folder"
        )
    return folder


def local_folder(path: Any, verb: str, error: type[ProbeError] | type[StoreError]) -> Path:
    """Return the path of a local folder.

    Args:
        path: path that the user gave.
        verb: `read` or `write`, for messages.
        error: class of the errors raised.

    Raises:
        ProbeError, StoreError: if `path` is no path, or is an address.
    """
    if not isinstance(path, str | os.PathLike):
        raise error(f"cannot {verb} a probe: name its folder, not {short(path)}")
    if "\0" in os.fspath(path):
        raise error(f"cannot {verb} the probe {path!r}: the name holds a null byte")
    if "://" in os.fspath(path):
        raise error(f"cannot {verb} the probe {path}: a probe is a local folder; copy it")
    return Path(path)


def safetensors_numpy() -> Any:
    """Import the module that reads and writes weights.

    Raises:
        MissingExtraError: if safetensors is not installed.
    """
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingExtraError(
            "probes are saved by safetensors: pip install 'unigeo[probe]'"
        ) from error
    return safetensors.numpy
