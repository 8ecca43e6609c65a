"""Published checkpoints: safe to load, quiet, and refused when of another size."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import transformers
from transformers.utils import logging

from unigeo.schemas.errors import ModelError


def load_tower(kind: Any, name: str, expected: Mapping[str, object]) -> Any:
    """Load one tower of a checkpoint: weights in safetensors only, and never code.

    Args:
        kind: class of `transformers`, such as `SiglipVisionModel`.
        name: folder, or name on the hub.
        expected: values that the tower's own configuration must hold.

    Raises:
        ModelError: if the checkpoint cannot be had, or is of another size.
    """
    with quiet():
        try:
            tower = kind.from_pretrained(
                name, use_safetensors=True, trust_remote_code=False, dtype="float32"
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"cannot load {kind.__name__} from {name!r}: {error} Pass a folder that holds "
                f"config.json and model.safetensors, or allow the network."
            ) from error
    found = {key: getattr(tower.config, key) for key in expected}
    other = {key: (found[key], value) for key, value in expected.items() if found[key] != value}
    if other:
        listed = ", ".join(f"{key} is {got}, not {want}" for key, (got, want) in other.items())
        raise ModelError(f"{name!r} is of another size: {listed}. Change the settings to match it.")
    return tower


def load_pretrained_tokenizer(name: str) -> Any:
    """Load the checkpoint's tokenizer, as a `tokenizers.Tokenizer`.

    Raises:
        ModelError: if it cannot be had.
    """
    with quiet():
        try:
            return transformers.AutoTokenizer.from_pretrained(
                name, trust_remote_code=False
            ).backend_tokenizer
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(f"cannot load a tokenizer from {name!r}: {error}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep `transformers` from reporting every weight of the other tower."""
    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
