"""Tables of a suite's scores over several foldings, and of differences in the same folds.

A folding is one assignment of rows and blocks to folds. Scores of several foldings differ by chance
alone; where one method is above another in each of them, it is above whatever the folds.
"""

from typing import TYPE_CHECKING, Any

from unigeo.client.probing.models import BASELINES
from unigeo.client.probing.score_tables import mean_of_all
from unigeo.client.probing.spatial_option import without_position
from unigeo.client.probing.suite_numbers import TREES

if TYPE_CHECKING:
    import pandas as pd

SEED = "seed"
"""Column of a report that says which folding a row is of, where there are several."""


def foldings_table(report: "pd.DataFrame") -> "pd.DataFrame":
    """Average blocked scores over targets: mean over the foldings, lowest and highest.

    Returns:
        Text, with a row per set of features or baseline; columns `mean`, and one per family. Empty
        where a set is not scored on every target.
    """
    import pandas as pd

    blocked = report[report["split"] == "blocked"]
    columns = {"mean": _by_folding(blocked)}
    families = [name for name in dict.fromkeys(blocked["family"]) if name]
    for family in families if len(families) > 1 else ():
        columns[family] = _by_folding(blocked[blocked["family"] == family])
    texts = pd.DataFrame({name: scores.apply(_span, axis=1) for name, scores in columns.items()})
    return texts.reindex(_features(report)).rename_axis("features").fillna("")


def above_numbers(report: "pd.DataFrame") -> "pd.DataFrame | None":
    """Subtract the blocked score of trees on numbers from that of each set of vectors.

    Of several forms of the numbers the better one counts, in each folding and target by itself.

    Returns:
        Text, with a row per target and then per family; mean of the differences over the foldings,
        with the lowest and highest if there are several. The last row counts the targets whose mean
        is above 0. None if no trees are scored, or no vectors.
    """
    import pandas as pd

    blocked = report[report["split"] == "blocked"]
    ours = [name for name in _features(report) if not _is_held_against(name)]
    trees = [name for name in TREES if name in set(blocked["features"])]
    if not trees or not ours:
        return None
    keys = ["table", "target", "family"]
    keyed = blocked.assign(**{SEED: blocked.get(SEED, 0)})
    wide = keyed.pivot_table(index=[*keys, SEED], columns="features", values="r2", sort=False)
    apart = wide[ours].sub(wide[trees].max(axis=1), axis=0)
    per_target = {name: apart[name].unstack(SEED, sort=False) for name in ours}
    rows = pd.DataFrame({name: each.apply(_span, axis=1) for name, each in per_target.items()})
    rows.index = pd.Index([str(target) for _, target, _ in rows.index], name="target")
    families = [name for name in dict.fromkeys(blocked["family"]) if name]
    parts = [rows]
    for family in families:
        of_family = apart.xs(family, level="family").groupby(SEED).mean()
        parts.append(of_family.T.apply(_span, axis=1).to_frame(f"mean of {family}").T)
    wins = {name: (each.mean(axis=1) > 0).sum() for name, each in per_target.items()}
    counts = {name: f"{count} of {len(rows)}" for name, count in wins.items()}
    parts.append(pd.DataFrame(counts, index=["targets above 0"]))
    return pd.concat(parts).rename_axis("target")


def _by_folding(blocked: "pd.DataFrame") -> "pd.DataFrame":
    """Average over targets: a row per set of features, a column per folding."""
    return mean_of_all(blocked, "features", [SEED], "r2")


def _features(report: "pd.DataFrame") -> list[str]:
    """Return the names of all sets of features and baselines, in the report's order."""
    return list(dict.fromkeys(report["features"]))


def _is_held_against(name: str) -> bool:
    """Return whether a row is a baseline or one of the numbers, rather than of vectors."""
    return name in BASELINES or name in TREES or without_position(name) in TREES.values()


def _span(values: Any) -> str:
    """Write the mean of some scores, with the lowest and highest if there are several."""
    if values.isna().all():
        return ""
    mean = f"{values.mean():.3f}"
    return mean if len(values) == 1 else f"{mean} ({values.min():.3f} to {values.max():.3f})"
