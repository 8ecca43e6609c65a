"""Sets of observations in WebDataset's format, with an index of byte ranges.

Start with `set_observations.open_observation_set`, which opens a set for training. The package
`producer.sources` builds sets, out of `tar_shards`, `height_images` and `index`.
"""
