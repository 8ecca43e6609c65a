"""Published checkpoints: safe to load, quiet, and refused when of another size."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import transformers
from transformers.utils import logging

from unigeo.producer.encoders.settings import ImageSettings, ModelSettings
from unigeo.schemas.errors import ModelError

FORM = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
"""What every SigLIP has in common, and our own towers too: a trained model is rebuilt without the
checkpoint, so one that differs here would come back as another function."""


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
    expected = {**expected, **FORM}
    found = {key: getattr(tower.config, key) for key in expected}
    other = {key: (found[key], value) for key, value in expected.items() if found[key] != value}
    if other:
        listed = ", ".join(f"{key} is {got}, not {want}" for key, (got, want) in other.items())
        raise ModelError(f"{name!r} is of another size: {listed}. Change the settings to match it.")
    return tower


def fit_to_checkpoint(settings: ModelSettings, name: str) -> ModelSettings:
    """Give the picture and text towers a checkpoint's sizes, to start from it.

    Args:
        settings: of a model; the towers of coordinates and surfaces stay as they are.
        name: folder or hub name of a SigLIP, or of a SigLIP 2 of fixed size.

    Raises:
        ModelError: if its configuration cannot be had, or is of another kind.
    """
    with quiet():
        try:
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"cannot read the configuration of {name!r}: {error} Pass a folder that holds "
                f"config.json and model.safetensors, or allow the network."
            ) from error
    if config.model_type != "siglip":
        raise ModelError(
            f"{name!r} is a {config.model_type!r}; only SigLIP towers of fixed size can be used, "
            f"which say 'siglip' also in SigLIP 2 (its NaFlex models, 'siglip2', take any size)."
        )
    changes: dict[str, Any] = {}
    for modality in ("aerial", "street"):
        tower: ImageSettings | None = getattr(settings, modality)
        if tower is not None:
            vision = config.vision_config
            changes[modality] = replace(
                tower,
                **_sizes(vision),
                pretrained=name,
                resize=vision.image_size,
                patch=vision.patch_size,
            )
    if settings.text is not None:
        words = config.text_config
        changes["text"] = replace(
            settings.text,
            **_sizes(words),
            pretrained=name,
            tokens=words.max_position_embeddings,
            vocabulary=words.vocab_size,
            pooled=None if words.projection_size == words.hidden_size else words.projection_size,
        )
    return replace(settings, **changes)


def _sizes(config: Any) -> dict[str, Any]:
    return {
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "mlp_ratio": config.intermediate_size / config.hidden_size,
    }


def load_pretrained_tokenizer(name: str) -> tuple[Any, str]:
    """Load the checkpoint's tokenizer, as a `tokenizers.Tokenizer`, and its padding token.

    Raises:
        ModelError: if it cannot be had.
    """
    with quiet():
        try:
            wrapped = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            return wrapped.backend_tokenizer, str(wrapped.pad_token)
        except (OSError, ValueError, AttributeError, ImportError) as error:
            raise ModelError(
                f"cannot load a tokenizer from {name!r}: {error} The folder must hold "
                f"tokenizer.json; SigLIP 2 has one, the first SigLIP a sentencepiece file only."
            ) from error


def checkpoint_tower(tower: Any, on: bool) -> None:
    """Recompute the blocks of a tower of `transformers` in the backward pass, or keep them."""
    verb = "enable" if on else "disable"
    switch = getattr(tower, f"activation_checkpointing_{verb}", None)  # since 5.20
    switch = switch or getattr(tower, f"gradient_checkpointing_{verb}")
    switch(*[{"use_reentrant": False}] if on else [])


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
