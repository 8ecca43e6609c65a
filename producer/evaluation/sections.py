"""Sections of the report: each asks one question of the hold-outs and shows what answers it."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.nn.functional import normalize

from unigeo.client.folds import blocked_folds
from unigeo.client.probe_checks import ProbeWarning
from unigeo.client.reporting import by_target, mean_scores
from unigeo.client.suites import Suite
from unigeo.producer.evaluation import drawing
from unigeo.producer.evaluation.answer_sets import LEVELS, answer_sets
from unigeo.producer.evaluation.calibration import (
    calibration_error,
    own_scales,
    reliability_bins,
    top_answers,
)
from unigeo.producer.evaluation.downstream.running import run
from unigeo.producer.evaluation.ensembles import MARGIN, ensemble_tables
from unigeo.producer.evaluation.geocells import cover, geocell_table
from unigeo.producer.evaluation.judging import HoldOut, Judge
from unigeo.producer.evaluation.overview import extents, plane_of_places, principal_map
from unigeo.producer.evaluation.probes import WORLD_PLACES, probe_model
from unigeo.producer.evaluation.report import Picture, Section, Table
from unigeo.producer.evaluation.retrieval import (
    KS,
    mean_recall,
    ordered_pairs,
    recall_matrix,
    retrieval_table,
)
from unigeo.producer.evaluation.robustness import AXES, MOST_PLACES, K, robustness_table
from unigeo.producer.observations.protocol import Observations

STATED = 0.9
"""Coverage that sets promise in the table."""
SET_FOLDS = 10
CELLS_KM = (200.0, 50.0)
"""Sides of the geocells."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """What is judged, and on what."""

    judge: Judge
    observations: Observations
    hold_outs: dict[str, HoldOut]
    """By name, the spatial one first."""
    suite: Suite | None
    suite_data: Path
    downstream: Mapping[str, Path]
    seed: int
    prefixes: tuple[int, ...] = ()
    """Leading dimensions that were trained to serve alone."""

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
    if subject.prefixes:
        parts.insert(0, _prefix_table(subject))
    text = "The vector of one modality at a place is compared with those of another at every place."
    return Section("Retrieval between all modalities", text, [summary, *parts])


def _prefix_table(subject: Subject) -> Table:
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
    return Table("retrieval_prefixes", caption, pd.DataFrame(rows))


def ensemble(subject: Subject) -> Section:
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
        f"is that modality alone. On the other half, {worse} of {len(learned)} learned ensembles lie "
        "below the best single modality."
    )
    weights = Table(
        "ensemble_weights",
        f"Learned weights. `gain`: mean gain of R@1, R@5 and R@10 over the best single modality "
        f"on places that did not teach the weights; `judged_gain`: on the other {half}.",
        learned,
    )
    return Section(
        "Ensembles", text, [weights, Table("ensembles", f"All figures, on {half}.", found)]
    )


def geocells(subject: Subject) -> Section:
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
    return Section("Geocells", text, [Table("geocells", caption, pd.concat(tables))])


def sets(subject: Subject) -> Section:
    """Sets of answers of stated coverage, and probabilities that mean what they say."""
    import pandas as pd

    hold_out = subject.spatial
    folds = blocked_folds(hold_out.blocks, SET_FOLDS, subject.seed)
    learned = own_scales(subject.judge.model)
    rows, coverages, answers = [], [], []
    for query, gallery in ordered_pairs(hold_out.embeddings):
        vectors = hold_out.embeddings[query], hold_out.embeddings[gallery]
        found = answer_sets(*vectors, folds)
        pair = {"query": query, "gallery": gallery}
        row: dict[str, object] = dict(pair)
        for (kind, level), covered in found.covered.items():
            share = float(covered.mean())
            coverages.append({**pair, "sets": kind, "stated": level, "covered": share})
            if level == STATED:
                row |= {f"covered_{kind}": share}
                row |= {f"size_{kind}": float(found.size[kind, level].mean())}
        row |= {"own_scale": learned[query, gallery], "fitted_scale": float(found.scale.mean())}
        for name, scale in (
            ("as trained", np.full(len(hold_out), learned[query, gallery])),
            ("fitted", found.scale),
        ):
            probability, right = top_answers(*vectors, scale)
            answers.append(
                pd.DataFrame({"scale": name, "probability": probability, "right": right})
            )
            row[f"error_{name.replace(' ', '_')}"] = calibration_error(
                reliability_bins(probability, right)
            )
        rows.append(row)
    bins = pd.concat(
        [
            reliability_bins(part["probability"].to_numpy(), part["right"].to_numpy()).assign(
                scale=name
            )
            for name, part in pd.concat(answers).groupby("scale", sort=False)
        ]
    )
    coverage = pd.DataFrame(coverages)
    return _sets_section(hold_out, pd.DataFrame(rows), coverage, bins)


def _sets_section(hold_out: HoldOut, table: Any, coverage: Any, bins: Any) -> Section:
    judged = coverage[coverage["stated"] == STATED]["covered"]
    on = f"{len(hold_out):,} places of the spatial hold-out in {SET_FOLDS} folds of whole blocks"
    text = (
        "A set holds the answers that the model cannot rule out. Its limit, and the one "
        "temperature that divides all cosines, come from the blocks that are not judged. Sets "
        f"stated to hold {100 * STATED:g} % of the places held {100 * judged.min():.1f} to "
        f"{100 * judged.max():.1f} %, {100 * judged.mean():.1f} % on average over pairs and kinds."
    )
    return Section(
        "Answers with a promise",
        text,
        [
            Table(
                "answer_sets",
                f"Sets stated to hold {100 * STATED:g} % of the places: share that they held and "
                f"their mean size among {len(hold_out):,} answers; inverse temperatures as trained "
                "and as fitted; expected calibration error of the best answer's probability under "
                f"both. {on}.",
                table,
            ),
            Table("coverage", f"Every stated coverage, {on}.", coverage),
            Picture(
                "coverage",
                f"Measured against stated coverage ({', '.join(f'{s:g}' for s in LEVELS)}), one "
                f"point per ordered pair of modalities. {on}.",
                drawing.coverage(coverage, "Coverage of answer sets, spatial hold-out"),
            ),
            Table("reliability", "The best answer's probability in ten equal bins.", bins),
            Picture(
                "reliability",
                "How often the best answer is right, against the probability given to it, all "
                "ordered pairs together, with the temperature as trained and as fitted.",
                drawing.reliability(bins, "Reliability of the best answer"),
            ),
        ],
    )


def robustness(subject: Subject) -> Section:
    """Recall of spoiled observations among unspoiled ones."""
    hold_out = subject.spatial
    table = robustness_table(subject.judge, hold_out, subject.seed)
    recall = f"R@{K}"
    caption = (
        f"{recall} of the first {min(MOST_PLACES, len(hold_out)):,} places of the spatial hold-out "
        f"in galleries of {len(hold_out):,}, mean over the galleries of the other modalities."
    )
    text = (
        "One modality is observed off its place, turned, or coarser; coordinates are shifted as by "
        "a poor fix. Missing modalities: each modality looks for its place in the uniform ensemble "
        "of the others, some of which are missing."
    )
    image = drawing.curves(table, "level", recall, "modality", "kind", AXES)
    parts: list[Table | Picture] = [
        Picture("robustness", caption, image), Table("robustness", caption, table),
    ]  # fmt: skip
    return Section("Robustness", text, parts)


def probes(subject: Subject) -> Section:
    """Linear models on the model's own vectors, beside what position alone tells."""
    title = "Linear probes"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ProbeWarning)
        table = probe_model(
            subject.judge, subject.observations, subject.suite, subject.suite_data, subject.seed
        )
    thin = dict.fromkeys(str(w.message) for w in said if issubclass(w.category, ProbeWarning))
    if table is None:
        return Section(title, "Nothing to probe: name a suite of targets with --suite.")
    parts: list[Table | Picture] = [
        Table("probe_means", "R2, mean over targets.", mean_scores(table).reset_index()),
        Table("probe_blocked", "Blocked R2.", by_target(table, "blocked").reset_index()),
        Table("probe_random", "Random R2.", by_target(table, "random").reset_index()),
    ]
    named = [str(name) for name in table if str(name).startswith("coverage_")]
    for name in named:
        stated = table[table[name].notna()]
        wide = by_target(stated, "blocked", name).reset_index()
        percent = name.removeprefix("coverage_")
        caption = f"Share of held-out points inside their {percent} % interval, blocked folds."
        parts.append(Table("probe_intervals", caption, wide))
    parts.append(Table("probes", "Every score, as `unigeo probe` gives them.", table))
    on = (
        f"the suite {subject.suite.name}"
        if subject.suite is not None
        else f"{WORLD_PLACES:,} places of the {subject.observations.name} with its own targets"
    )
    text = (
        f"Ridge on the frozen vectors, on {on}. The encoders may have seen places near by; the "
        "folds keep targets apart. Blocked folds hold out whole squares of the map, random ones "
        "shuffled rows."
    )
    if thin:
        text += f" Mind: {'; '.join(thin)}."
    return Section(title, text, parts)


def downstream(subject: Subject) -> Section:
    """Linear probes of the towers on public benchmarks that lie in folders."""
    import pandas as pd

    if not subject.downstream:
        return Section(
            "Public benchmarks", "None was given: name copies with --downstream NAME=FOLDER."
        )
    scores: list[dict[str, object]] = []
    parts: list[Table | Picture] = []
    for name, folder in subject.downstream.items():
        found = run(name, subject.judge.model, folder, subject.judge.device)
        scores += [{"benchmark": name, "metric": m, "score": v} for m, v in found.metrics.items()]
        facts = ", ".join(f"{key} {value}" for key, value in found.facts.items())
        file = f"downstream_{name.replace('-', '_')}"
        parts.append(Table(file, f"{name}. {facts}.", found.table.reset_index()))
    table = pd.DataFrame(scores)
    caption = "Scores over the whole test set; of each benchmark the one that papers print first."
    text = "The towers are frozen; a linear probe learns from the benchmark's own training part."
    return Section("Public benchmarks", text, [Table("downstream", caption, table), *parts])


def maps(subject: Subject) -> Section:
    """Colours of a dense grid of coordinates, and all places in one plane."""
    hold_out = subject.spatial
    parts: list[Table | Picture] = []
    if "coordinate" in hold_out.embeddings:
        panels = [
            (
                title,
                principal_map(subject.judge.model, subject.observations, e, subject.judge.device),
                e,
            )
            for title, e in extents(hold_out.lonlat).items()
        ]
        caption = (
            "Coordinate vectors of a dense grid: their three main directions as red, green and "
            "blue, fitted to each map by itself. Grey: no land."
        )
        parts.append(Picture("principal_map", caption, drawing.colour_maps(panels)))
    plane, owners, colours = plane_of_places(hold_out, subject.seed)
    count = len(plane) // len(hold_out.embeddings)
    caption = (
        f"{count} places of the spatial hold-out in every modality, laid out by t-SNE of cosine "
        "distances: where modalities agree, points of one place lie together."
    )
    image = drawing.scatter(plane, owners, colours, f"t-SNE of {count} places in each modality")
    parts.append(Picture("tsne", caption, image))
    return Section("Maps of the vectors", "What the space looks like.", parts)
