"""Sections of the report: each asks one question of the hold-outs and shows what answers it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unigeo.client.suites import Suite
from unigeo.producer.evaluation import drawing
from unigeo.producer.evaluation.judging import HoldOut, Judge
from unigeo.producer.evaluation.report import Picture, Section, Table
from unigeo.producer.evaluation.retrieval import retrieval_table
from unigeo.producer.observations.protocol import Observations


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """What is judged, and on what."""

    judge: Judge
    observations: Observations
    hold_outs: dict[str, HoldOut]
    """By name, the spatial one first."""
    suite: Suite | None
    suite_data: Path
    seed: int

    @property
    def spatial(self) -> HoldOut:
        """Places of blocks that training kept apart."""
        return self.hold_outs["spatial"]


def retrieval(subject: Subject) -> Section:
    """Every modality looks for its place in every other, on every hold-out."""
    import pandas as pd

    parts: list[Table | Picture] = []
    means = []
    for name, hold_out in subject.hold_outs.items():
        table = retrieval_table(hold_out.embeddings, hold_out.lonlat)
        file = f"retrieval_{name.replace(' ', '_')}"
        caption = (
            f"{hold_out.meaning} {len(hold_out):,} places in {len(np.unique(hold_out.blocks))} "
            "blocks, each the gallery of all. R@k: share of queries whose own place is among the "
            "k nearest; Acc@r: share whose nearest answer lies within r; ties count against."
        )
        parts.append(Table(file, f"{name.capitalize()} hold-out. {caption}", table))
        title = f"R@10 in percent, {name} hold-out, {len(hold_out):,} places"
        image = drawing.heat_map(table, "R@10", title)
        parts.append(Picture(file, f"R@10 of every ordered pair on the {name} hold-out.", image))
        pairs = table[table["gallery"] != ""]
        means.append({"hold-out": name, **pairs.mean(numeric_only=True).to_dict()})
    summary = Table(
        "retrieval_means",
        "Means over all ordered pairs of modalities, by hold-out.",
        pd.DataFrame(means),
    )
    text = "The vector of one modality at a place is compared with those of another at every place."
    return Section("Retrieval between all modalities", text, [summary, *parts])
