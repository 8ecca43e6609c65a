"""Finds the folder of a model: one on disk, that of an installed field, or one of the hub."""

import re
from pathlib import Path

from unigeo.schemas.errors import ModelError, StoreError
from unigeo.schemas.io.installed_fields import (
    DEFAULT,
    how_to_install,
    installed_folder,
    installed_names,
)

WEIGHTS, SETTINGS, TOKENIZER = "model.safetensors", "settings.json", "tokenizer.json"
DOCUMENTS = ("card.md", "metrics.json")
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]*\w")


def model_folder(name: str | Path) -> Path:
    """Return the folder of a model, given the folder or the name of an installed field.

    A folder that exists wins over a name; what is neither is returned as it is.

    Raises:
        ModelError: if the field that is read by default is named, and not installed.
    """
    folder = Path(name).expanduser()
    if folder.exists():
        return folder
    if str(name) in installed_names():
        try:
            return installed_folder(str(name)) / "model"
        except StoreError as error:
            raise ModelError(str(error)) from error
    if str(name) == DEFAULT:
        raise ModelError(f"the model {DEFAULT!r} is not installed: {how_to_install()}")
    return folder


def pretrained_folder(name: str | Path, revision: str | None = None) -> Path:
    """Return the folder of a model, given also by its name on the Hugging Face hub.

    Args:
        name: folder, name of an installed field, or `organization/model`.
        revision: branch, tag or commit of a model of the hub.

    Raises:
        ModelError: if there is no such model, or the hub cannot be reached.
    """
    folder = model_folder(name)
    if folder.exists():
        return folder
    if _HUB_NAME.fullmatch(str(name)):
        return _from_hub(str(name), revision)
    known = ", ".join(installed_names()) or "none"
    raise ModelError(
        f"there is neither a folder {name} nor an installed model of that name; installed: {known}"
    )


def _from_hub(name: str, revision: str | None) -> Path:
    """Return a model's folder in the hub's cache; files that the cache lacks are downloaded."""
    from huggingface_hub import snapshot_download

    def snapshot(*files: str, offline: bool = False) -> Path:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=list(files), local_files_only=offline
            )
        )

    def has(folder: Path, *files: str) -> bool:
        return all((folder / file).is_file() for file in files)

    try:
        folder = snapshot(offline=True)
        if has(folder, SETTINGS, WEIGHTS):
            return folder
    except (OSError, ValueError):
        pass  # not in the cache
    try:
        # The small file first: weights of other projects, which have no such file, stay there.
        folder = snapshot(SETTINGS)
        if has(folder, SETTINGS):
            folder = snapshot(SETTINGS, WEIGHTS, TOKENIZER, *DOCUMENTS)
    except Exception as error:  # those of the hub and of its HTTP client share no other base
        reason = str(error.__cause__ or error).strip().splitlines()
        raise ModelError(
            f"there is neither a folder nor a cached model {name!r}, and none came from the hub: "
            f"{reason[0] if reason else type(error).__name__}. Check the name, or pass a folder"
        ) from error
    if not has(folder, SETTINGS):
        raise ModelError(f"{name!r} of the hub is no model of unigeo: it has no {SETTINGS}")
    if not has(folder, WEIGHTS):
        raise ModelError(
            f"the cache of the hub holds a part of {name!r}, without {WEIGHTS}, and the rest did "
            "not come from the hub. Allow the network, or pass a folder"
        )
    return folder
