"""The model card: what the model is, what it saw, how well it does, what it is not for."""

from typing import Any

from torch import nn

from unigeo.producer.encoders.settings import ModelSettings


def card(model: nn.Module, settings: ModelSettings, metrics: dict[str, Any]) -> str:
    """Write the card from settings and metrics alone, as Markdown."""
    about = metrics["observations"]
    names = list(metrics["retrieval"]["R@10"])
    count = sum(weight.numel() for weight in model.parameters())
    rows = [
        f"| {query} | "
        + " | ".join(
            "" if query == gallery else f"{100 * metrics['retrieval']['R@10'][query][gallery]:.1f}"
            for gallery in names
        )
        + " |"
        for query in names
    ]
    lines = [
        f"# UniGeoCLIP, {count / 1e6:.2f} million parameters",
        "",
        f"{settings.dimension} dimensions, modalities {', '.join(names)}. "
        "Trained from scratch by unigeo; the method is that of arXiv 2604.11668, the weights are "
        "not the paper's.",
        "",
        "## Data",
        "",
        f"Observations `{about.get('name')}`; licence: {about.get('licence', 'not stated')}. "
        f"{metrics['places']['train']:,} places to train on. Blocks of "
        f"{metrics['training']['block_km']:g} km were held out.",
        "",
        "## Retrieval on the spatial hold-out",
        "",
        f"Recall at 10 in percent among {metrics['places']['gallery']:,} places, query in rows, "
        f"gallery in columns; chance is {100 * metrics['chance']['R@10']:.2f}, the mean "
        f"{100 * metrics['mean']['R@10']:.1f}.",
        "",
        "| | " + " | ".join(names) + " |",
        "| --- |" + " --- |" * len(names),
        *rows,
        "",
        "## Limits",
        "",
        "Vectors describe places as the observations show them, with their dates and gaps. Do not "
        "use them to single out people or households.",
        "",
    ]
    return "\n".join(lines)
