"""Predict a column of a table everywhere, and draw it beside its uncertainty.

python docs/examples/map_probe.py STORE TABLE TARGET OUT.png
"""

import sys

import matplotlib.pyplot as plt
import pandas as pd

from unigeo import client

store, table, target, out = sys.argv[1:]
probe = client.open_field(store).probe(pd.read_parquet(table), target, baselines=False)
print(probe)
drawn = probe.map(target).load()
valid = drawn["prediction"].notnull()
drawn = drawn.isel(y=valid.any("x").values, x=valid.any("y").values)
figure, axes = plt.subplots(2, 1, figsize=(8, 10), layout="constrained")
for axis, layer, colours in zip(
    axes, ("prediction", "uncertainty"), ("viridis", "magma"), strict=True
):
    drawn[layer].plot.imshow(ax=axis, cmap=colours, robust=True, cbar_kwargs={"shrink": 0.8})
    axis.set_title(f"{target}: {layer}")
    axis.set_aspect("equal")
figure.savefig(out, dpi=90)
