"""Report sections on the vectors: robustness, linear probes, public benchmarks and maps."""

import warnings

from unigeo.client.probing.score_tables import by_target, mean_scores
from unigeo.producer.evaluation import figures
from unigeo.producer.evaluation.downstream.benchmarks import run
from unigeo.producer.evaluation.html_report import ReportFigure, ReportTable, Section
from unigeo.producer.evaluation.model_under_test import EvaluationContext
from unigeo.producer.evaluation.overview import map_extents, principal_map, tsne_layout
from unigeo.producer.evaluation.robustness import AXES, MAX_LOCATIONS, K, robustness_table
from unigeo.producer.evaluation.table_probes import WORLD_LOCATIONS, probe_model
from unigeo.schemas.errors import ProbeWarning


def robustness(context: EvaluationContext) -> Section:
    """Compute recall of degraded observations in unchanged galleries."""
    hold_out = context.spatial
    table = robustness_table(context.model_under_test, hold_out, context.seed)
    recall = f"R@{K}"
    queries = min(MAX_LOCATIONS, len(hold_out))
    caption = (
        f"{recall} of the first {queries:,} places of the spatial hold-out in galleries of "
        f"{len(hold_out):,}, mean over the galleries of the other modalities."
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


def probes(context: EvaluationContext) -> Section:
    """Probe the vectors by ridge regression, next to baselines of the coordinates alone."""
    title = "Linear probes"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ProbeWarning)
        table = probe_model(
            context.model_under_test,
            context.observations,
            context.suite,
            context.suite_data,
            context.seed,
        )
    messages = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, ProbeWarning))
    if table is None:
        return Section(title, "Nothing to probe: name a suite of targets with --suite.")
    parts: list[ReportTable | ReportFigure] = [
        ReportTable("probe_means", "R2, mean over targets.", mean_scores(table).reset_index()),
        ReportTable("probe_blocked", "Blocked R2.", by_target(table, "blocked").reset_index()),
        ReportTable("probe_random", "Random R2.", by_target(table, "random").reset_index()),
    ]
    for name in [str(name) for name in table if str(name).startswith("coverage_")]:
        with_intervals = table[table[name].notna()]
        coverage = by_target(with_intervals, "blocked", name).reset_index()
        percent = name.removeprefix("coverage_")
        caption = f"Share of held-out points inside their {percent} % interval, blocked folds."
        parts.append(ReportTable("probe_intervals", caption, coverage))
    parts.append(ReportTable("probes", "Every score, as `unigeo probe` gives them.", table))
    data = (
        f"the suite {context.suite.name}, vectors {context.suite.sampling}"
        if context.suite is not None
        else f"{WORLD_LOCATIONS:,} places of the {context.observations.name} with its own targets"
    )
    text = (
        f"Ridge on the frozen vectors, on {data}. The encoders may have seen places near by; the "
        "folds keep targets apart. Blocked folds hold out whole squares of the map, random ones "
        "shuffled rows."
    )
    if messages:
        text += f" Mind: {'; '.join(messages)}."
    return Section(title, text, parts)


def downstream(context: EvaluationContext) -> Section:
    """Probe the towers on the public benchmarks for which a folder is given."""
    import pandas as pd

    if not context.downstream:
        return Section(
            "Public benchmarks", "None was given: name copies with --downstream NAME=FOLDER."
        )
    scores: list[dict[str, object]] = []
    parts: list[ReportTable | ReportFigure] = []
    for name, folder in context.downstream.items():
        result = run(name, context.model_under_test.model, folder, context.model_under_test.device)
        scores += [{"benchmark": name, "metric": m, "score": v} for m, v in result.metrics.items()]
        facts = ", ".join(f"{key} {value}" for key, value in result.facts.items())
        file = f"downstream_{name.replace('-', '_')}"
        parts.append(ReportTable(file, f"{name}. {facts}.", result.table))
    table = pd.DataFrame(scores)
    caption = "Scores over the whole test set; of each benchmark the one that papers print first."
    text = "The towers are frozen; a linear probe learns from the benchmark's own training part."
    return Section("Public benchmarks", text, [ReportTable("downstream", caption, table), *parts])


def maps(context: EvaluationContext) -> Section:
    """Draw coordinate vectors as coloured maps, and the vectors of all modalities by t-SNE."""
    hold_out = context.spatial
    model, device = context.model_under_test.model, context.model_under_test.device
    parts: list[ReportTable | ReportFigure] = []
    if "coordinate" in hold_out.embeddings:
        panels = [
            (
                title,
                principal_map(model, context.observations, extent, device),
                extent,
            )
            for title, extent in map_extents(hold_out.lonlat).items()
        ]
        caption = (
            "Coordinate vectors of a dense grid: their three main directions as red, green and "
            "blue, fitted to each map by itself. Grey: no land."
        )
        parts.append(ReportFigure("principal_map", caption, figures.colour_maps(panels)))
    plane, modalities, colours = tsne_layout(hold_out, context.seed)
    count = len(plane) // len(hold_out.embeddings)
    caption = (
        f"{count} places of the spatial hold-out in every modality, laid out by t-SNE of cosine "
        "distances: where modalities agree, points of one place lie together."
    )
    image = figures.scatter(plane, modalities, colours, f"t-SNE of {count} places in each modality")
    parts.append(ReportFigure("tsne", caption, image))
    return Section("Maps of the vectors", "What the space looks like.", parts)
