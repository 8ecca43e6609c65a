"""From observations to a published store: the whole of `unigeo-produce`.

`pipeline.choose` turns options into a `ProductionRun`, `carry_out` trains, rasterizes and publishes
it, `foresee` estimates its cost. `recipe` has the presets, and `overrides` changes their settings.
"""
