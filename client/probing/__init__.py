"""Probes: linear models that predict a table's targets from a field's vectors, and their scores.

`Probe` (probe.py) is what `Field.probe` returns; `probe_table` (cross_validation.py) scores any
vectors. `ridge` and `logistic` are the models, `folds` the splits, `conformal` the intervals.
"""
