"""Report sections on retrieval: recall, ensembles, geocells and answer sets."""

from typing import TYPE_CHECKING, Any

import numpy as np
from torch.nn.functional import normalize

from unigeo.client.probing.folds import blocked_folds
from unigeo.producer.evaluation import figures
from unigeo.producer.evaluation.answer_sets import KINDS, LEVELS, answer_sets
from unigeo.producer.evaluation.calibration import (
    calibration_error,
    learned_scales,
    reliability_bins,
    top_answers,
)
from unigeo.producer.evaluation.ensembles import MARGIN, ensemble_tables
from unigeo.producer.evaluation.geocells import cover_land, geocell_table
from unigeo.producer.evaluation.html_report import ReportFigure, ReportTable, Section
from unigeo.producer.evaluation.model_under_test import EvaluationContext, HoldOut
from unigeo.producer.evaluation.retrieval import KS, retrieval_table
from unigeo.producer.training.recall import mean_recall, ordered_pairs, recall_matrix

if TYPE_CHECKING:
    import pandas as pd

STATED = 0.9
"""Stated coverage of the sets in the table of pairs."""
SET_FOLDS = 10
CELLS_KM = (200.0, 50.0)
"""Sides of the geocells."""


def retrieval(context: EvaluationContext) -> Section:
    """Compute retrieval between all ordered pairs of modalities, on every hold-out."""
    import pandas as pd

    parts: list[ReportTable | ReportFigure] = []
    means = []
    for name, hold_out in context.hold_outs.items():
        table = retrieval_table(hold_out.embeddings, hold_out.lonlat)
        file = f"retrieval_{name.replace(' ', '_')}"
        caption = (
            f"{hold_out.description} {len(hold_out):,} places in {len(np.unique(hold_out.blocks))} "
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
    if context.prefixes:
        parts.insert(0, _prefix_table(context))
    text = "The vector of one modality at a place is compared with those of another at every place."
    return Section("Retrieval between all modalities", text, [summary, *parts])


def _prefix_table(context: EvaluationContext) -> ReportTable:
    """Compute mean recall of the leading dimensions alone."""
    import pandas as pd

    rows = []
    for count in sorted({*context.prefixes, context.model_under_test.model.settings.dimension}):
        short = {
            name: normalize(vectors[:, :count], dim=1)
            for name, vectors in context.spatial.embeddings.items()
        }
        recalls = {name: mean_recall(rows) for name, rows in recall_matrix(short, KS).items()}
        rows.append({"leading dimensions": count} | recalls)
    caption = "Means over all ordered pairs on the spatial hold-out, by leading dimensions alone."
    return ReportTable("retrieval_prefixes", caption, pd.DataFrame(rows))


def ensemble(context: EvaluationContext) -> Section:
    """Compute retrieval by ensembles of modalities, with uniform and with learned weights."""
    hold_out = context.spatial
    metrics, learned = ensemble_tables(
        hold_out.embeddings, hold_out.lonlat, hold_out.blocks, context.seed
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
        "Ensembles", text, [weights, ReportTable("ensembles", f"All figures, on {half}.", metrics)]
    )


def geocells(context: EvaluationContext) -> Section:
    """Classify the locations of each modality to cells of the map."""
    import pandas as pd

    hold_out = context.spatial
    queries = {name: v for name, v in hold_out.embeddings.items() if name != "coordinate"}
    if "coordinate" not in hold_out.embeddings or not queries:
        return Section("Geocells", "The model lacks a coordinate encoder, or anything to ask it.")
    tables = []
    for side_km in CELLS_KM:
        cells = cover_land(
            context.model_under_test.model, context.observations, hold_out.lonlat, side_km,
            context.model_under_test.device,
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


def sets(context: EvaluationContext) -> Section:
    """Compute coverage and size of answer sets, and the calibration of probabilities."""
    import pandas as pd

    hold_out = context.spatial
    folds = blocked_folds(hold_out.blocks, SET_FOLDS, context.seed)
    learned = learned_scales(context.model_under_test.model)
    pairs, coverages, answers = [], [], []
    for pair in ordered_pairs(hold_out.embeddings):
        vectors = hold_out.embeddings[pair[0]], hold_out.embeddings[pair[1]]
        result = answer_sets(*vectors, folds)
        scales = {"trained": np.full(len(hold_out), learned[pair]), "fitted": result.scale}
        tops = {name: top_answers(*vectors, scale) for name, scale in scales.items()}
        names: dict[str, Any] = dict(zip(("query", "gallery"), pair, strict=True))
        shares = {key: float(covered.mean()) for key, covered in result.covered.items()}
        coverages += [
            names | {"sets": kind, "stated": level, "covered": share}
            for (kind, level), share in shares.items()
        ]
        pairs.append(
            names
            | {f"covered_{kind}": shares[kind, STATED] for kind in KINDS}
            | {f"size_{kind}": float(result.size[kind, STATED].mean()) for kind in KINDS}
            | {f"scale_{name}": float(scale.mean()) for name, scale in scales.items()}
            | {f"error_{n}": calibration_error(reliability_bins(*top)) for n, top in tops.items()}
        )
        answers.append(tops)
    # The bins of the figure pool the answers of all pairs: transpose the list of (probability,
    # right) into two lists, and concatenate each.
    bins = [
        reliability_bins(*map(np.concatenate, zip(*(tops[name] for tops in answers), strict=True)))
        .assign(scale=name)
        for name in ("trained", "fitted")
    ]  # fmt: skip
    return _sets_section(hold_out, pd.DataFrame(pairs), pd.DataFrame(coverages), pd.concat(bins))


def _sets_section(
    hold_out: HoldOut, pairs: "pd.DataFrame", coverage: "pd.DataFrame", bins: "pd.DataFrame"
) -> Section:
    covered = coverage[coverage["stated"] == STATED]["covered"]
    data = f"{len(hold_out):,} places of the spatial hold-out in {SET_FOLDS} folds of whole blocks"
    text = (
        "A set holds the answers that the model cannot rule out. Its limit, and the one "
        "temperature that divides all cosines, come from the blocks that are not judged. Sets "
        f"stated to hold {100 * STATED:g} % of the places held {100 * covered.min():.1f} to "
        f"{100 * covered.max():.1f} %, {100 * covered.mean():.1f} % on average over pairs and "
        "kinds."
    )
    table = ReportTable(
        "answer_sets",
        f"Sets stated to hold {100 * STATED:g} % of the places: share that they held, and their "
        f"mean size among {len(hold_out):,} answers; inverse temperature as trained, and as fitted "
        f"(mean over folds); expected calibration error of the best answer under both. {data}.",
        pairs,
    )
    coverage_figure = ReportFigure(
        "coverage",
        f"Measured against stated coverage ({', '.join(f'{level:g}' for level in LEVELS)}), one "
        f"point per ordered pair of modalities. {data}.",
        figures.coverage(coverage, "Coverage of answer sets, spatial hold-out"),
    )
    reliability_figure = ReportFigure(
        "reliability",
        "How often the best answer is right, against the probability given to it, all ordered "
        "pairs together, with the temperature as trained and as fitted.",
        figures.reliability(bins, "Reliability of the best answer"),
    )
    coverage_table = ReportTable("coverage", f"Every stated coverage, {data}.", coverage)
    reliability_table = ReportTable(
        "reliability", "The best answer's probability in ten equal bins.", bins
    )
    parts: list[ReportTable | ReportFigure] = [
        table, coverage_figure, coverage_table, reliability_figure, reliability_table,
    ]  # fmt: skip
    return Section("Answers with a promise", text, parts)
