"""Loading of published SigLIP checkpoints, without code and with their sizes checked."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import transformers
from transformers.utils import logging

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import ImageSettings, TextSettings
from unigeo.schemas.errors import ModelError

FORM = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
"""Configuration that a checkpoint must share with our own towers: a trained model is rebuilt
without its checkpoint, so that another value here would make it another function."""


def load_tower(kind: Any, name: str, expected: Mapping[str, object]) -> Any:
    """Load one tower of a checkpoint, from safetensors only and without running its code.

    Args:
        kind: class of `transformers`, such as `SiglipVisionModel`.
        name: folder, or name on the hub.
        expected: values that the tower's own configuration must have.

    Raises:
        ModelError: if the checkpoint cannot be loaded, or has another size.
    """
    with quiet():
        try:
            tower = kind.from_pretrained(
                name, use_safetensors=True, trust_remote_code=False, dtype="float32"
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"cannot load {kind.__name__} from {name!r}: {_reason(error)}. Pass a folder that "
                f"holds config.json and model.safetensors, or allow the network."
            ) from error
    expected = {**expected, **FORM}
    actual = {key: getattr(tower.config, key) for key in expected}
    wrong = {key: (actual[key], value) for key, value in expected.items() if actual[key] != value}
    if wrong:
        listed = ", ".join(f"{key} is {got}, not {want}" for key, (got, want) in wrong.items())
        raise ModelError(f"{name!r} is of another size: {listed}. Change the settings to match it.")
    return tower


def fit_to_checkpoint(settings: ModelSettings, name: str) -> ModelSettings:
    """Set the sizes of the image and text towers to a checkpoint's, so that they start from it.

    Args:
        settings: of a model; the towers of coordinates and surfaces stay as they are.
        name: folder or hub name of a SigLIP, or of a SigLIP 2 of fixed size.

    Raises:
        ModelError: if its configuration cannot be read, or is of another kind.
    """
    with quiet():
        try:
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"cannot read the configuration of {name!r}: {_reason(error)}. Pass a folder that "
                f"holds config.json and model.safetensors, or allow the network."
            ) from error
    if config.model_type != "siglip":
        raise ModelError(
            f"{name!r} is a {config.model_type!r}; only SigLIP towers of fixed size can be used, "
            f"which say 'siglip' also in SigLIP 2 (its NaFlex models, 'siglip2', take any size)."
        )
    changes: dict[str, Any] = {}
    vision, text = config.vision_config, config.text_config
    for modality, tower in settings.towers.items():
        if isinstance(tower, ImageSettings) and takes_checkpoint(tower):
            changes[modality] = replace(
                tower,
                **_sizes(vision),
                pretrained=name,
                resize=vision.image_size,
                patch=vision.patch_size,
            )
        elif isinstance(tower, TextSettings):
            changes[modality] = replace(
                tower,
                **_sizes(text),
                pretrained=name,
                tokens=text.max_position_embeddings,
                vocabulary=text.vocab_size,
                pooled=None if text.projection_size == text.hidden_size else text.projection_size,
            )
    return settings.with_towers(**changes)


def _reason(error: Exception) -> str:
    """Return the first sentence of an error: `transformers` lists all its classes after it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(". ")[0].rstrip(".")


def takes_checkpoint(tower: ImageSettings) -> bool:
    """Return whether an image tower can start from a checkpoint, which takes colours or greys."""
    return tower.channels in (1, 3) and tower.dtype == "uint8"


def _sizes(config: Any) -> dict[str, Any]:
    return {
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "mlp_ratio": config.intermediate_size / config.hidden_size,
    }


def load_pretrained_tokenizer(name: str) -> tuple[Any, str]:
    """Load a checkpoint's tokenizer, as a `tokenizers.Tokenizer`, and its padding token.

    Raises:
        ModelError: if it cannot be loaded.
    """
    with quiet():
        try:
            wrapped = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            return wrapped.backend_tokenizer, str(wrapped.pad_token)
        except (OSError, ValueError, AttributeError, ImportError) as error:
            raise ModelError(
                f"cannot load a tokenizer from {name!r}: {_reason(error)}. The folder must hold "
                f"tokenizer.json; SigLIP 2 has one, the first SigLIP a sentencepiece file only."
            ) from error


def checkpoint_tower(tower: Any, on: bool) -> None:
    """Switch activation checkpointing of a tower of `transformers`."""
    verb = "enable" if on else "disable"
    switch = getattr(tower, f"activation_checkpointing_{verb}", None)  # since 5.20
    switch = switch or getattr(tower, f"gradient_checkpointing_{verb}")
    switch(*[{"use_reentrant": False}] if on else [])


@contextmanager
def quiet() -> Iterator[None]:
    """Silence `transformers`, which would report every weight of the tower that is not loaded."""
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
