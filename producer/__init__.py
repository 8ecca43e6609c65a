"""Train UniGeoCLIP and write its embeddings as a Zarr field.

`pipeline.pipeline` has the two functions behind `unigeo-produce`: `choose` turns options into a
run, `carry_out` trains, rasterizes and publishes.
"""
