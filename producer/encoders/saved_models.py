"""Models as folders on disk: written whole or not at all, and checked when they are read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_folders import SETTINGS, TOKENIZER, WEIGHTS
from unigeo.producer.encoders.model_settings import ModelSettings, from_json, to_json
from unigeo.schemas.errors import ModelError
from unigeo.schemas.io.atomic_files import folder_beside
from unigeo.schemas.io.json_text import load_json

FORMAT = 1
"""Version of the format of model folders."""


def save_model(
    model: UniGeoCLIP,
    tokenizer: Tokenizer | None,
    folder: str | Path,
    documents: Mapping[str, str] | None = None,
    *,
    half: bool = False,
) -> None:
    """Write a model as a folder, completely or not at all.

    Args:
        model: whose weights and settings are written.
        tokenizer: of its text encoder, if it has one.
        folder: folder to write; an older model in it is replaced, anything else is refused.
        documents: further files by name, such as the card and the metrics.
        half: whether to write float32 weights as float16, half as large. They are rounded: vectors
            of the model as it is read again differ from those of the one in memory.

    Raises:
        ModelError: if the folder holds something else, or cannot be written.
    """
    folder = Path(folder).absolute()
    check_model_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(folder, unique=True, overwrite=True) as new:
            _write_files(model, tokenizer, new, documents or {}, half)
    except OSError as error:
        raise ModelError(
            f"cannot write {folder}: {error}. Nothing was changed. Name a folder you may write."
        ) from error


def check_model_folder(folder: Path) -> None:
    """Refuse to write a model over what is none.

    Raises:
        ModelError: if there is a file of that name, or a folder of other files.
    """
    if not folder.exists() or (folder / SETTINGS).exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise ModelError(f"{folder} is not a model; it is left as it is. Name another folder.")


def _write_files(
    model: UniGeoCLIP,
    tokenizer: Tokenizer | None,
    folder: Path,
    documents: Mapping[str, str],
    half: bool,
) -> None:
    weights = {name: t.detach().contiguous().cpu() for name, t in model.state_dict().items()}
    if half:
        weights = {n: t.half() if t.dtype == torch.float32 else t for n, t in weights.items()}
    save_file(weights, folder / WEIGHTS)
    if tokenizer is not None:
        tokenizer.save(str(folder / TOKENIZER))
    for name, content in documents.items():
        (folder / name).write_text(content, encoding="utf-8")
    description = {
        "format": FORMAT,
        "settings": to_json(model.settings),
        "sha256": {
            name: _sha256(folder / name)
            for name in (WEIGHTS, TOKENIZER)
            if (folder / name).exists()
        },
    }
    (folder / SETTINGS).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def read_settings(folder: str | Path) -> ModelSettings:
    """Read the settings of a model folder without its weights.

    Raises:
        ModelError: if they are missing, damaged, or of another version.
    """
    return from_json(_read_description(Path(folder))["settings"])


def load_model(folder: str | Path) -> tuple[UniGeoCLIP, Tokenizer | None]:
    """Read a model folder, offline: the model, and the tokenizer of its text encoder if it has one.

    Raises:
        ModelError: if a file is missing, damaged, or of another version.
    """
    folder = Path(folder)
    description = _read_description(folder)
    for name, expected in description["sha256"].items():
        if _sha256(_file(folder, name)) != expected:
            raise ModelError(
                f"{folder / name} is damaged: its SHA-256 is not the one in {SETTINGS}. Copy the "
                f"model again."
            )
    model = UniGeoCLIP(from_json(description["settings"]), pretrained=False)
    try:
        model.load_state_dict(load_file(_file(folder, WEIGHTS)))
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{folder / WEIGHTS} does not fit its settings: {error}") from error
    if model.settings.text is None:
        return model.eval(), None
    try:
        return model.eval(), Tokenizer.from_file(str(_file(folder, TOKENIZER)))
    except Exception as error:  # tokenizers raises nothing narrower
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{folder / TOKENIZER} is damaged: {error}. Copy it again.") from error


def model_hash(folder: str | Path) -> str:
    """Return the SHA-256 of a model's weights, in hexadecimal, which identifies the model.

    Raises:
        ModelError: if there is no model.
    """
    return _sha256(_file(Path(folder), WEIGHTS))


def _read_description(folder: Path) -> dict[str, Any]:
    path = _file(folder, SETTINGS)
    try:
        description = load_json(path.read_text(encoding="utf-8"))
        version = description["format"]
        complete = {"settings", "sha256"} <= set(description)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} does not describe a model: {error!r}. Copy it again.") from error
    if version != FORMAT or not complete:
        raise ModelError(f"{path} is of format {version}; this version of unigeo reads {FORMAT}.")
    return dict(description)


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ModelError(f"{folder} is not a whole model: {name} is missing. Train it, or copy it.")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
