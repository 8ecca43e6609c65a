"""What the towers share: the projection into the common space, and pretrained weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn

from unigeo.schemas.errors import ModelError

ATTENTION = "sdpa"
"""How SigLIP towers multiply their attention."""


class Projection(nn.Module):
    """Linear map into the common space, in float32 even under autocast."""

    def __init__(self, width: int, dimension: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, dimension, bias=False)

    def forward(self, features: Float[Tensor, "point width"]) -> Float[Tensor, "point dimension"]:
        """Project the features of each point."""
        with torch.autocast(features.device.type, enabled=False):
            projected: Tensor = self.linear(features.float())
        return projected


def start_tower(kind: type[Any], config: Any, pretrained: str | None) -> Any:
    """Make a SigLIP tower from noise, or from a checkpoint of the same shape.

    Args:
        kind: `SiglipVisionModel` or `SiglipTextModel`.
        config: the shape our settings ask for.
        pretrained: folder or hub name; only its safetensors are read, and no code of it is run.

    Raises:
        ModelError: if the checkpoint cannot be read, lacks weights, or has another shape.
    """
    if pretrained is None:
        return kind._from_config(config, attn_implementation=ATTENTION)
    try:
        with quiet():
            found = kind.config_class.from_pretrained(pretrained)
            _same_shape(config, found, pretrained)
            tower, loading = kind.from_pretrained(
                pretrained,
                config=found,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=ATTENTION,
                output_loading_info=True,
            )
    except (OSError, RuntimeError) as problem:
        raise ModelError(
            f"cannot load {kind.__name__} from {pretrained!r}: {problem}. Give a folder with "
            "config.json and model.safetensors, or a hub name while online."
        ) from problem
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ModelError(
            f"{pretrained!r} lacks {len(missing)} weights of {kind.__name__}, the first "
            f"{missing[0]!r}. Give a complete SigLIP checkpoint."
        )
    return tower


def _same_shape(wanted: Any, found: Any, where: str) -> None:
    names = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_channels", "image_size", "patch_size", "vocab_size", "max_position_embeddings",
        "hidden_act", "layer_norm_eps", "projection_size",
    )  # fmt: skip
    for name in names:
        ours, theirs = getattr(wanted, name, None), getattr(found, name, None)
        if ours != theirs:
            raise ModelError(
                f"{where!r} has {name} {theirs}, the settings ask for {ours}. Change the settings "
                "to the checkpoint's, or name another checkpoint."
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing its long report on every load."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
