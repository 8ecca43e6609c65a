"""A probe as text: its scores, counts of the rows behind them, and the gains over controls."""

from html import escape
from typing import TYPE_CHECKING

from unigeo.client.probing.models import BASELINES
from unigeo.client.probing.score_tables import by_features, to_markdown
from unigeo.client.probing.table_columns import listed

if TYPE_CHECKING:
    from unigeo.client.probing.probe import Probe

_PRECISION = " Precision is the average precision of the rarer of two classes, of more the mean."


def probe_text(probe: "Probe", most: int | None = None, more: str = "") -> str:
    """Write a probe as Markdown; `most` as in `Probe.text`, `more` before the last sentence."""
    targets = list(probe.targets)
    while True:  # fewer targets each time, until the text is short enough
        shown = probe.scores[probe.scores["target"].isin(targets)]
        text = f"{to_markdown(by_features(shown))}\n\n{_counts_text(probe, targets)}"
        if len(targets) < len(probe.targets):
            text += f" The first {len(targets)} of {len(probe.targets)} targets; "
            text += "`print(probe.text())` shows them all."
        text += _gains_text(probe, targets) + more
        beside = _beside_position(probe, targets)
        text += f"\n\n{beside}" if beside else ""
        if most is None or len(text) <= most or len(targets) == 1:
            return text
        targets = targets[: max(1, min(len(targets) - 1, len(targets) * most // len(text)))]


def probe_html(probe: "Probe") -> str:
    """Write a probe as HTML, for a notebook."""
    table = by_features(probe.scores).to_html(float_format="{:.3f}".format)
    targets = list(probe.targets)
    texts = (_counts_text(probe, targets), _beside_position(probe, targets))
    return table + "".join(f"<p>{escape(text)}</p>" for text in texts if text)


def _counts_text(probe: "Probe", targets: list[str]) -> str:
    """Write how many rows and blocks each target's scores are computed from."""
    used = probe.scores.drop_duplicates("target").set_index("target")
    counts = "; ".join(
        f"{target[:60]} ({used.at[target, 'metric']!s}): {probe.counts[target]} in "
        f"{used.at[target, 'blocks']!s} blocks"
        for target in targets
    )
    classes = any(used.at[target, "metric"] == "accuracy" for target in targets)
    by_default = ""
    if len(probe.fitted) > 1:
        models = (f"{target[:60]} by {probe.default_features(target)}" for target in targets)
        by_default = f" Predicted by default: {'; '.join(models)}."
    weighted = " Rows count by their weights." if probe.weighted else ""
    precision = _PRECISION if classes else ""
    return f"Scores of held-out predictions. {counts}.{weighted}{precision}{by_default}"


def _beside_position(probe: "Probe", targets: list[str]) -> str:
    """Write on how many targets vectors are above position alone, in blocks that were not seen."""
    rows = probe.scores[(probe.scores["split"] == "blocked") & probe.scores["score"].notna()]
    position = rows[
        rows["features"].isin([name for name in BASELINES if name.startswith("lonlat")])
    ]
    best = position.groupby("target")["score"].max()
    chosen = rows.set_index(["target", "features"])["score"].to_dict()
    default = {target: (target, probe.default_features(target)) for target in targets}
    shown = [name for name in targets if name in best.index and default[name] in chosen]
    if not shown:
        return ""
    own = [float(chosen[default[target]]) for target in shown]
    others = [float(best[target]) for target in shown]
    above = sum(mine > other for mine, other in zip(own, others, strict=True))
    return (
        f"In blocks that were not seen, what is predicted by default is above every baseline of "
        f"position on {above} of {len(shown)} targets: {sum(own) / len(own):.3f} on average, the "
        f"best of these baselines of each target {sum(others) / len(others):.3f}."
    )


def _gains_text(probe: "Probe", targets: list[str]) -> str:
    """Write what the vectors add to the controls; nothing if there are no controls."""
    gains = probe.gains[probe.gains["target"].isin(targets)]
    if gains.empty:
        return ""
    shown = gains.set_index("target").drop(columns="metric")
    return (
        f"\n\nWhat vectors add to the controls {listed(probe.controls)}: scores of both beside "
        "each alone, the gain of both over the controls, and the ends of its "
        f"{100 * probe.level:g} % interval over resampled "
        f"{'blocks or groups' if 'grouped' in probe.folds else 'blocks'}.\n\n"
        f"{to_markdown(shown)}"
    )
