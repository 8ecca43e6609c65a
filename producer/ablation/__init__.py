"""Ablations: the same training with one setting changed, over several seeds, and its effects.

`ablation_table.read_table` reads the variants, `trials.plan_trials` makes one trial of each variant
and seed, `run_trials` and `workers` run the trials, `effects.effects` compares them with the base,
and `ablation_report.write_report` writes tables and a figure.
"""
