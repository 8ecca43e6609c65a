"""Building of sets of observations from open catalogues and local files.

Start with `build_set`: `prepare` reads the settings (`set_description`), chooses locations
(`location_sampling`) and opens a source per modality (`imagery`, `street`, `texts`); `observe_set`
builds the set, shard by shard.
"""
