"""Sections of the report on finding places: each asks one question and shows what answers it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from torch.nn.functional import normalize

from unigeo.client.probing.folds import blocked_folds
from unigeo.producer.evaluation import figures
from unigeo.producer.evaluation.answer_sets import KINDS, LEVELS, answer_sets
from unigeo.producer.evaluation.calibration import (
    calibration_error,
    own_scales,
    reliability_bins,
    top_answers,
)
from unigeo.producer.evaluation.ensembles import MARGIN, ensemble_tables
from unigeo.producer.evaluation.geocells import cover, geocell_table
from unigeo.producer.evaluation.html_report import ReportFigure, ReportTable, Section
from unigeo.producer.evaluation.model_under_test import EvaluationSubject, HoldOut
from unigeo.producer.evaluation.retrieval import KS, retrieval_table
from unigeo.producer.training.recall import mean_recall, ordered_pairs, recall_matrix

if TYPE_CHECKING:
    import pandas as pd

STATED = 0.9
"""Coverage that sets promise in the table."""
SET_FOLDS = 10
CELLS_KM = (200.0, 50.0)
"""Sides of the geocells."""


def retrieval(subject: EvaluationSubject) -> Section:
    """Every modality looks for its place in every other, on every hold-out."""
    import pandas as pd

    parts: list[ReportTable | ReportFigure] = []
    means = []
    for name, hold_out in subject.hold_outs.items():
        table = retrieval_table(hold_out.embeddings, hold_out.lonlat)
        file = f"retrieval_{name.replace(' ', '_')}"
        caption = (
            f"{hold_out.meaning} {len(hold_out):,} places in {len(np.unique(hold_out.blocks))} "
            "blocks, each the gallery of all. R@k: share of queries whose own place is among the "
            "k nearest; Acc@r: share whose nearest answer lies within r; ties count against."
        )
        parts.append(ReportTable(file, f"{name.capitalize()} hold-out. {caption}", table))
        title = f"R@10 in percent, {name} hold-out, {len(hold_out):,} places"
        image = figures.heat_map(table, "R@10", title)
        parts.append(
            ReportFigure(file, f"R@10 of every ordered pair on the {name} hold-out.", image)
        )
        pairs = table[table["gallery"] != ""]
        means.append({"hold-out": name, **pairs.mean(numeric_only=True).to_dict()})
    summary = ReportTable(
        "retrieval_means",
        "Means over all ordered pairs of modalities, by hold-out.",
        pd.DataFrame(means),
    )
    if subject.prefixes:
        parts.insert(0, _prefix_table(subject))
    text = "The vector of one modality at a place is compared with those of another at every place."
    return Section("Retrieval between all modalities", text, [summary, *parts])


def _prefix_table(subject: EvaluationSubject) -> ReportTable:
    """What is left where a reader takes the leading dimensions only."""
    import pandas as pd

    rows = []
    for count in sorted({*subject.prefixes, subject.judge.model.settings.dimension}):
        short = {
            name: normalize(vectors[:, :count], dim=1)
            for name, vectors in subject.spatial.embeddings.items()
        }
        recalls = {name: mean_recall(rows) for name, rows in recall_matrix(short, KS).items()}
        rows.append({"leading dimensions": count} | recalls)
    caption = "Means over all ordered pairs on the spatial hold-out, by leading dimensions alone."
    return ReportTable("retrieval_prefixes", caption, pd.DataFrame(rows))


def ensemble(subject: EvaluationSubject) -> Section:
    """Several modalities at once, by uniform and by learned weights."""
    hold_out = subject.spatial
    found, learned = ensemble_tables(
        hold_out.embeddings, hold_out.lonlat, hold_out.blocks, subject.seed
    )
    half = f"half of the blocks of the spatial hold-out ({len(hold_out):,} places)"
    worse = int((learned["judged_gain"] < 0).sum())
    text = (
        "The vector of an ensemble is the unit sum of weighted unit vectors. Weights are learned "
        "on half of the blocks, and kept only if places that did not teach them show a gain over "
        f"the best single modality of more than {MARGIN:g} standard errors; otherwise the ensemble "
        f"is that modality alone. On the other half, {worse} of {len(learned)} learned ensembles "
        "lie below the best single modality."
    )
    weights = ReportTable(
        "ensemble_weights",
        f"Learned weights. `gain`: mean gain of R@1, R@5 and R@10 over the best single modality "
        f"on places that did not teach the weights; `judged_gain`: on the other {half}.",
        learned,
    )
    return Section(
        "Ensembles", text, [weights, ReportTable("ensembles", f"All figures, on {half}.", found)]
    )


def geocells(subject: EvaluationSubject) -> Section:
    """Places classified to cells of the map that only the coordinate encoder describes."""
    import pandas as pd

    hold_out = subject.spatial
    queries = {name: v for name, v in hold_out.embeddings.items() if name != "coordinate"}
    if "coordinate" not in hold_out.embeddings or not queries:
        return Section("Geocells", "The model lacks a coordinate encoder, or anything to ask it.")
    tables = []
    for side_km in CELLS_KM:
        cells = cover(
            subject.judge.model, subject.observations, hold_out.lonlat, side_km,
            subject.judge.device,
        )  # fmt: skip
        tables.append(geocell_table(queries, hold_out.lonlat, cells))
    caption = (
        f"{len(hold_out):,} places of the spatial hold-out put into cells of the land around them. "
        "right: share put into the cell that holds them; Acc@r: share whose cell's centre lies "
        "within r; looked_at: share of the vectors compared."
    )
    text = (
        "Each cell of the Equal Earth map is known by the coordinate vector of its centre, or by "
        "the unit mean of those of places inside it. Coarse to fine looks only into the best "
        "coarse cells."
    )
    return Section("Geocells", text, [ReportTable("geocells", caption, pd.concat(tables))])


def sets(subject: EvaluationSubject) -> Section:
    """Sets of answers of stated coverage, and probabilities that mean what they say."""
    import pandas as pd

    hold_out = subject.spatial
    folds = blocked_folds(hold_out.blocks, SET_FOLDS, subject.seed)
    learned = own_scales(subject.judge.model)
    pairs, coverages, answers = [], [], []
    for pair in ordered_pairs(hold_out.embeddings):
        vectors = hold_out.embeddings[pair[0]], hold_out.embeddings[pair[1]]
        found = answer_sets(*vectors, folds)
        scales = {"trained": np.full(len(hold_out), learned[pair]), "fitted": found.scale}
        tops = {name: top_answers(*vectors, scale) for name, scale in scales.items()}
        about: dict[str, Any] = dict(zip(("query", "gallery"), pair, strict=True))
        held = {key: float(covered.mean()) for key, covered in found.covered.items()}
        coverages += [
            about | {"sets": kind, "stated": level, "covered": share}
            for (kind, level), share in held.items()
        ]
        pairs.append(
            about
            | {f"covered_{kind}": held[kind, STATED] for kind in KINDS}
            | {f"size_{kind}": float(found.size[kind, STATED].mean()) for kind in KINDS}
            | {f"scale_{name}": float(scale.mean()) for name, scale in scales.items()}
            | {f"error_{n}": calibration_error(reliability_bins(*top)) for n, top in tops.items()}
        )
        answers.append(tops)
    bins = [
        reliability_bins(*map(np.concatenate, zip(*(tops[name] for tops in answers), strict=True)))
        .assign(scale=name)
        for name in ("trained", "fitted")
    ]  # fmt: skip
    return _sets_section(hold_out, pd.DataFrame(pairs), pd.DataFrame(coverages), pd.concat(bins))


def _sets_section(
    hold_out: HoldOut, pairs: "pd.DataFrame", coverage: "pd.DataFrame", bins: "pd.DataFrame"
) -> Section:
    judged = coverage[coverage["stated"] == STATED]["covered"]
    on = f"{len(hold_out):,} places of the spatial hold-out in {SET_FOLDS} folds of whole blocks"
    text = (
        "A set holds the answers that the model cannot rule out. Its limit, and the one "
        "temperature that divides all cosines, come from the blocks that are not judged. Sets "
        f"stated to hold {100 * STATED:g} % of the places held {100 * judged.min():.1f} to "
        f"{100 * judged.max():.1f} %, {100 * judged.mean():.1f} % on average over pairs and kinds."
    )
    table = ReportTable(
        "answer_sets",
        f"Sets stated to hold {100 * STATED:g} % of the places: share that they held, and their "
        f"mean size among {len(hold_out):,} answers; inverse temperature as trained, and as fitted "
        f"(mean over folds); expected calibration error of the best answer under both. {on}.",
        pairs,
    )
    covered = ReportFigure(
        "coverage",
        f"Measured against stated coverage ({', '.join(f'{level:g}' for level in LEVELS)}), one "
        f"point per ordered pair of modalities. {on}.",
        figures.coverage(coverage, "Coverage of answer sets, spatial hold-out"),
    )
    reliable = ReportFigure(
        "reliability",
        "How often the best answer is right, against the probability given to it, all ordered "
        "pairs together, with the temperature as trained and as fitted.",
        figures.reliability(bins, "Reliability of the best answer"),
    )
    every = ReportTable("coverage", f"Every stated coverage, {on}.", coverage)
    binned = ReportTable("reliability", "The best answer's probability in ten equal bins.", bins)
    return Section("Answers with a promise", text, [table, covered, every, reliable, binned])
