"""Reader of GEO-Bench data sets: one HDF5 file per sample, and JSON files that list the splits.

A data set of GEO-Bench 1.0 (`m-pv4ger`, `m-chesapeake`) is a folder with these files:

    default_partition.json   {"train": [names], "valid": [names], "test": [names]}
    band_stats.json          {"Red": {"max": ...}, ...}
    label_map.json           {"0": [names], ...}; optional, for classification
    NAME.hdf5                one dataset per band, named BAND or BAND_DATE, and `label` if that is
                             a mask; the attribute `pickle` has everything else

Unpickling can run any code, so no pickle is ever loaded. Bands are found by their names. The class
of an image is read from `label_map.json`, or else from the pickle without executing it:
`pickletools` lists its instructions, and the integer that follows the key "label" is the class.

Source: Lacoste et al. (2023), "GEO-Bench", arXiv 2306.03831; its writer `write_sample_hdf5`.
"""

import ast
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import MissingExtraError, ObservationsError
from unigeo.schemas.io.json_text import load_json

SPLITS = ("train", "valid", "test")
_RGB = ("Red", "Green", "Blue")
_MEMO_OPCODES = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}
"""Opcodes that may stand between a key and its value: they only memoize the key."""
_INTEGER_OPCODES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"}
"""Opcodes whose argument is an integer value, not an index into the memo."""


class GeoBench:
    """An opened data set of GEO-Bench; `names` lists its samples by split."""

    def __init__(self, folder: Path | str, partition: str = "default") -> None:
        """Read the names of the samples.

        Args:
            folder: folder of the data set.
            partition: `default`, or one with fewer training samples, such as `0.10x_train`.

        Raises:
            ObservationsError: if a file is missing or damaged.
            MissingExtraError: if h5py is not installed.
        """
        self.folder = Path(folder)
        self.names = self._partition(f"{partition}_partition.json")
        stats = self._json("band_stats.json")
        try:
            brightest = max(float(stats[band]["max"]) for band in _RGB)
        except (KeyError, TypeError, ValueError) as error:
            raise ObservationsError(
                f"{self.folder / 'band_stats.json'} has no maximum of the bands {', '.join(_RGB)} "
                f"({error!r}). Copy it again."
            ) from error
        # Some copies store bands from 0 to 1, others from 0 to 255.
        self._scale = 255.0 if brightest <= 1 else 1.0
        self._h5py = _h5py()

    def image(self, name: str) -> Float[np.ndarray, "row col 3"]:
        """Read the RGB image of a sample, from 0 to 255."""
        bands = self._read(name, lambda file: [self._band(file, band, name) for band in _RGB])
        return np.stack(bands, axis=-1).astype(np.float64) * self._scale

    def mask(self, name: str) -> Any:
        """Read the class of every pixel of a sample, an integer array (row, col)."""
        mask = self._read(name, lambda file: self._band(file, "label", name))
        return mask.astype(np.int64).reshape(mask.shape[:2])

    def labels(self) -> dict[str, int]:
        """Read the class of every sample."""
        mapped: dict[str, int] = {}
        if (self.folder / "label_map.json").exists():
            for label, names in self._json("label_map.json").items():
                mapped |= dict.fromkeys(names, int(label))
        samples = [name for split in SPLITS for name in self.names[split]]
        return {name: mapped[name] if name in mapped else self._label(name) for name in samples}

    def _label(self, name: str) -> int:
        text = self._read(name, lambda file: file.attrs.get("pickle", ""))
        label = label_in_pickle(text)
        if label is None:
            raise ObservationsError(
                f"{self._path(name)} states no class as a plain number, and pickles are not "
                f"loaded. Put label_map.json beside it: {{class: [sample names]}}."
            )
        return label

    def _band(self, file: Mapping[str, Any], band: str, name: str) -> Any:
        keys = [key for key in file if key == band or key.startswith(f"{band}_")]
        if len(keys) != 1:
            raise ObservationsError(
                f"{self._path(name)} must hold one dataset {band!r}, but holds "
                f"{', '.join(sorted(file)) or 'none'}. Is this another data set of GEO-Bench?"
            )
        return np.asarray(file[keys[0]])

    def _read(self, name: str, read: Callable[[Any], Any]) -> Any:
        path = self._path(name)
        if not path.is_file():
            raise ObservationsError(
                f"{path} is missing: the partition names it. Download the data set again."
            )
        try:
            with self._h5py.File(path, "r") as file:
                return read(file)
        except (OSError, RuntimeError, KeyError) as error:
            raise ObservationsError(
                f"{path} is damaged: {error}. Download the data set again."
            ) from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.hdf5"

    def _partition(self, name: str) -> dict[str, list[str]]:
        splits = self._json(name)
        empty = [split for split in SPLITS if not splits.get(split)]
        if empty:
            raise ObservationsError(
                f"{self.folder / name} names no samples of {', '.join(empty)}. Copy it again."
            )
        return splits

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            raise ObservationsError(
                f"{path} is missing. The folder of a GEO-Bench data set holds "
                f"default_partition.json, band_stats.json and one .hdf5 file per sample."
            )
        try:
            content = load_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ObservationsError(f"{path} is damaged: {error}. Copy it again.") from error
        if not isinstance(content, dict):
            raise ObservationsError(f"{path} must hold a JSON object. Copy it again.")
        return content


def label_in_pickle(text: str) -> int | None:
    """Read the integer under the key "label" in a pickle, without unpickling it.

    Args:
        text: the pickle as GEO-Bench stores it, the `repr` of a bytes object.

    Returns:
        The integer; None if there is none, or if the text is not a pickle.

    >>> import pickle
    >>> label_in_pickle(str(pickle.dumps({"label": 3, "Red": {"crs": "EPSG:4326"}})))
    3
    """
    after_key = False
    try:
        for opcode, value, _ in pickletools.genops(ast.literal_eval(text)):
            if after_key and opcode.name in _INTEGER_OPCODES and isinstance(value, int):
                return int(value)
            after_key = value == "label" or (after_key and opcode.name in _MEMO_OPCODES)
    except (ValueError, SyntaxError, TypeError):
        pass  # not bytes, or not a pickle
    return None


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            "GEO-Bench is read by h5py, which is not installed: pip install 'unigeo[evaluate]'"
        ) from error
    return h5py
