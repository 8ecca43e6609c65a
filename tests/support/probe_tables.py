"""Tables to probe the store `gulf` with."""

import numpy as np
import pandas as pd

from unigeo.client.field.field import Field


def linear_table(field: Field, count: int = 600, seed: int = 0) -> pd.DataFrame:
    """Points with a vector, where `height` is linear in the coordinate vector, with noise."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"lon": rng.uniform(-18, 18, count), "lat": rng.uniform(-14, 11, count)})
    table.index = [f"p{number}" for number in range(count)]
    vectors = field.sample(table, as_="numpy")["coordinate"]
    table = table[np.isfinite(vectors[:, 0])]
    vectors = vectors[np.isfinite(vectors[:, 0])].astype(np.float64)
    table["height"] = vectors @ np.arange(1.0, 9.0) + 0.05 * rng.standard_normal(len(table))
    table["north"] = np.where(table["height"] > table["height"].median(), "high", "low")
    table["county"] = (table["lon"] // 3).astype(int) * 100 + (table["lat"] // 3).astype(int)
    return table
