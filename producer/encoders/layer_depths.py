"""The parameters of a model by depth, for learning rates that differ by layer."""

import re
from collections import defaultdict

from torch import nn

from unigeo.producer.encoders.model import UniGeoCLIP

TEMPERATURE = "temperature"
"""Key beside the modalities under which `layers` lists the logit scale."""
HEADS = "heads"
"""Key of the heads of plain numbers, where a model has them."""

# Names of parameters within an encoder: of its own modules, of `transformers` and of `timm`.
_FIRST = re.compile(
    r"frequencies|registers|scale_\w+|embedding\.|tower\.(embeddings|cls_token|reg_token|pos_embed|patch_embed)"
)
_BLOCK = re.compile(r"(?:tower\.(?:encoder\.layers|blocks)|blocks|perceptrons\.\d+\.hidden)\.(\d+)")
_LAST = re.compile(
    r"projection|numbers|norm|perceptrons\.\d+\.head|tower\.(post_layernorm|\w*norm|head)"
)


def layers(model: UniGeoCLIP) -> dict[str, list[tuple[int, list[nn.Parameter]]]]:
    """List each encoder's parameters by depth, from the input to the output.

    Depth 0 has the parameters that make tokens (embeddings, registers, learned frequencies), depth
    1 the first block or hidden layer, and the last depth, blocks + 1, the norm, pooling and
    projection. Depths without parameters are left out. Tied towers are listed once, as the first;
    the logit scale, which belongs to no tower, as `temperature`, and the heads of plain numbers as
    `heads`: every parameter occurs once.
    """
    listed: dict[str, list[tuple[int, list[nn.Parameter]]]] = {}
    for modality, encoder in model.encoders.items():
        by_depth: defaultdict[int, list[nn.Parameter]] = defaultdict(list)
        for name, parameter in encoder.named_parameters():
            by_depth[_depth(name, model.settings.towers[modality].depth)].append(parameter)
        listed[modality] = sorted(by_depth.items(), key=lambda layer: layer[0])
    listed[TEMPERATURE] = [(0, [model.logit_scale])]
    if model.heads is not None:
        listed[HEADS] = [(0, list(model.heads.parameters()))]
    return listed


def _depth(name: str, blocks: int) -> int:
    """Return the depth of a parameter by its name in the encoder."""
    block = _BLOCK.match(name)
    if block:
        return int(block[1]) + 1
    if _FIRST.match(name):
        return 0
    assert _LAST.match(name), f"{name} belongs to no known layer"
    return blocks + 1
