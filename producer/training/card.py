"""The model card: architecture, data, training, retrieval scores and limits, as Markdown."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import ImageSettings, TextSettings


def card(model: nn.Module, settings: ModelSettings, metrics: dict[str, Any]) -> str:
    """Build the card from the model's settings and the content of `metrics.json`."""
    parts = (
        _architecture(model, settings, metrics),
        _intended_use(),
        _data(metrics),
        _training(metrics),
        _retrieval(metrics),
        _limits(),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _architecture(
    model: nn.Module, settings: ModelSettings, metrics: dict[str, Any]
) -> Iterator[str]:
    count = sum(weight.numel() for weight in model.parameters())
    checkpoints = {
        name: tower.pretrained
        for name, tower in settings.towers.items()
        if isinstance(tower, ImageSettings | TextSettings) and tower.pretrained is not None
    }
    origin = ", ".join(f"{name} from `{source}`" for name, source in checkpoints.items())
    yield f"# UniGeoCLIP, {count / 1e6:.2f} million parameters"
    yield ""
    yield (
        f"{settings.dimension} dimensions, modalities {', '.join(settings.modalities)}. "
        f"Trained by unigeo {metrics['code']['unigeo']}; towers start "
        f"{origin or 'from random weights'}{', the others from random weights' * bool(origin)}. "
        "The method is that of arXiv 2604.11668, the weights are not the paper's."
    )
    yield ""


def _intended_use() -> Iterator[str]:
    yield "## Intended use"
    yield ""
    yield (
        "Vectors of places, as inputs of linear probes, for search among places and for maps. A "
        "result is to be judged on spatial blocks that its training did not see."
    )
    yield ""


def _data(metrics: dict[str, Any]) -> Iterator[str]:
    provenance, training = metrics["observations"], metrics["training"]
    yield "## Data"
    yield ""
    yield (
        f"Observations `{provenance.get('name')}`"
        f"{', synthetic' if provenance.get('synthetic') else ''}; "
        f"licence: {provenance.get('licence', 'not stated')}; citation: "
        f"{provenance.get('citation', 'not stated')}. Their hashes are in `metrics.json`."
    )
    yield ""
    yield (
        f"{metrics['places']['train']:,} places to train on"
        f"{', others in every pass' if training.get('fresh') else ''}. Held out: "
        f"{100 * training['holdout']:g} % of the blocks of {training['block_km']:g} km of the "
        f"global Equal Earth map, chosen by seed {training['seed']}."
    )
    yield ""


def _training(metrics: dict[str, Any]) -> Iterator[str]:
    training, joules = metrics["training"], metrics["joules"]
    energy = "not counted by this machine" if joules is None else f"{joules / 3.6e6:.3g} kWh"
    yield "## Training"
    yield ""
    yield (
        f"{training['steps']:,} steps of {training['batch']:,} places, seed {training['seed']}, in "
        f"{metrics['seconds']['train']:,.0f} s on {metrics['processes']} x {metrics['device']} "
        f"({metrics['samples_per_second']:,.0f} places per second); "
        f"{metrics['flops']['needed']:.2g} floating-point operations; energy {energy}. All "
        "settings are in `metrics.json` and `settings.json`."
    )
    yield ""


def _retrieval(metrics: dict[str, Any]) -> Iterator[str]:
    recall = metrics["retrieval"]["R@10"]
    yield "## Retrieval on the spatial hold-out"
    yield ""
    yield (
        f"Recall at 10 in percent among {metrics['places']['gallery']:,} places, query in rows, "
        f"gallery in columns; chance is {100 * metrics['chance']['R@10']:.2f}, the mean "
        f"{100 * metrics['mean']['R@10']:.1f}."
    )
    yield ""
    yield "| | " + " | ".join(recall) + " |"
    yield "| --- |" + " --- |" * len(recall)
    for query in recall:
        cells = ("" if query == other else f"{100 * recall[query][other]:.1f}" for other in recall)
        yield f"| {query} | " + " | ".join(cells) + " |"
    yield ""


def _limits() -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield (
        "Vectors describe places as the observations show them, with their dates, gaps and biases; "
        "outside the region of the training places they mean little. Do not use them to single out "
        "people or households, nor for decisions about them."
    )
