"""The parameters by depth: each once, from the input to the output."""

from typing import Any

import pytest
import torch

from unigeo.producer.encoders.layer_depths import TEMPERATURE, layers
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import (
    CoordinateSettings,
    ImageSettings,
    SurfaceSettings,
    TextSettings,
)

SIZE = {"width": 32, "depth": 3, "heads": 2}


def settings(tied: bool = False, **coordinate: Any) -> ModelSettings:
    image = ImageSettings(**SIZE, rows=16, cols=16, patch=8)
    return ModelSettings(
        dimension=16,
        towers={
            "coordinate": CoordinateSettings(**SIZE | coordinate),
            "aerial": image,
            "street": image,
            "dsm": SurfaceSettings(**SIZE, rows=16, cols=16, patch=8),
            "text": TextSettings(**SIZE, tokens=8, vocabulary=300),
        },
        tied=tied,
        temperature_per_pair=True,
    )


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "coordinate",
    [
        {"learned_frequencies": True, "scale_layers": 2},
        {"kind": "geoclip", "learned_frequencies": True},
        {"kind": "satclip", "degree": 5},
        {"kind": "fourier"},
    ],
    ids=str,
)
def test_every_parameter_occurs_once(tied: bool, coordinate: dict[str, Any]) -> None:
    model = UniGeoCLIP(settings(tied, **coordinate))
    listed_layers = layers(model)
    listed = [id(p) for groups in listed_layers.values() for _, group in groups for p in group]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    towers = set(model.modalities) - ({"street"} if tied else set())
    assert set(listed_layers) == towers | {TEMPERATURE}
    for modality in towers - {"coordinate"}:
        assert [depth for depth, _ in listed_layers[modality]] == [0, 1, 2, 3, 4]
    assert [depth for depth, _ in listed_layers["coordinate"]][-4:] == [1, 2, 3, 4]


def test_depth_rises_along_the_way_to_the_vector() -> None:
    """What enters the second block has gradients to the embeddings and the first block alone."""
    model = UniGeoCLIP(settings())
    tower = model.encoders["aerial"].tower
    entering = []
    tower.encoder.layers[1].register_forward_pre_hook(lambda _, args: entering.append(args[0]))
    model.encode("aerial", torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8))
    entering[0].square().sum().backward()
    for depth, group in layers(model)["aerial"]:
        for parameter in group:
            assert (parameter.grad is not None) == (depth <= 1)
