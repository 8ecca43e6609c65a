"""Sections of the report on the vectors: what spoils them, what they tell, how they look."""

import warnings

from unigeo.client.probing.checks import ProbeWarning
from unigeo.client.probing.score_tables import by_target, mean_scores
from unigeo.producer.evaluation import figures
from unigeo.producer.evaluation.downstream.suites import run
from unigeo.producer.evaluation.html_report import ReportFigure, ReportTable, Section
from unigeo.producer.evaluation.model_under_test import EvaluationSubject
from unigeo.producer.evaluation.overview import extents, plane_of_places, principal_map
from unigeo.producer.evaluation.robustness import AXES, MOST_PLACES, K, robustness_table
from unigeo.producer.evaluation.table_probes import WORLD_PLACES, probe_model


def robustness(subject: EvaluationSubject) -> Section:
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
    image = figures.curves(table, "level", recall, "modality", "kind", AXES)
    parts: list[ReportTable | ReportFigure] = [
        ReportFigure("robustness", caption, image), ReportTable("robustness", caption, table),
    ]  # fmt: skip
    return Section("Robustness", text, parts)


def probes(subject: EvaluationSubject) -> Section:
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
    parts: list[ReportTable | ReportFigure] = [
        ReportTable("probe_means", "R2, mean over targets.", mean_scores(table).reset_index()),
        ReportTable("probe_blocked", "Blocked R2.", by_target(table, "blocked").reset_index()),
        ReportTable("probe_random", "Random R2.", by_target(table, "random").reset_index()),
    ]
    named = [str(name) for name in table if str(name).startswith("coverage_")]
    for name in named:
        stated = table[table[name].notna()]
        wide = by_target(stated, "blocked", name).reset_index()
        percent = name.removeprefix("coverage_")
        caption = f"Share of held-out points inside their {percent} % interval, blocked folds."
        parts.append(ReportTable("probe_intervals", caption, wide))
    parts.append(ReportTable("probes", "Every score, as `unigeo probe` gives them.", table))
    on = (
        f"the suite {subject.suite.name}, vectors {subject.suite.sampling}"
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


def downstream(subject: EvaluationSubject) -> Section:
    """Linear probes of the towers on public benchmarks that lie in folders."""
    import pandas as pd

    if not subject.downstream:
        return Section(
            "Public benchmarks", "None was given: name copies with --downstream NAME=FOLDER."
        )
    scores: list[dict[str, object]] = []
    parts: list[ReportTable | ReportFigure] = []
    for name, folder in subject.downstream.items():
        found = run(name, subject.judge.model, folder, subject.judge.device)
        scores += [{"benchmark": name, "metric": m, "score": v} for m, v in found.metrics.items()]
        facts = ", ".join(f"{key} {value}" for key, value in found.facts.items())
        file = f"downstream_{name.replace('-', '_')}"
        parts.append(ReportTable(file, f"{name}. {facts}.", found.table))
    table = pd.DataFrame(scores)
    caption = "Scores over the whole test set; of each benchmark the one that papers print first."
    text = "The towers are frozen; a linear probe learns from the benchmark's own training part."
    return Section("Public benchmarks", text, [ReportTable("downstream", caption, table), *parts])


def maps(subject: EvaluationSubject) -> Section:
    """Colours of a dense grid of coordinates, and all places in one plane."""
    hold_out = subject.spatial
    parts: list[ReportTable | ReportFigure] = []
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
        parts.append(ReportFigure("principal_map", caption, figures.colour_maps(panels)))
    plane, owners, colours = plane_of_places(hold_out, subject.seed)
    count = len(plane) // len(hold_out.embeddings)
    caption = (
        f"{count} places of the spatial hold-out in every modality, laid out by t-SNE of cosine "
        "distances: where modalities agree, points of one place lie together."
    )
    image = figures.scatter(plane, owners, colours, f"t-SNE of {count} places in each modality")
    parts.append(ReportFigure("tsne", caption, image))
    return Section("Maps of the vectors", "What the space looks like.", parts)
