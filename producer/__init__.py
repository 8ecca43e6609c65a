"""Train UniGeoCLIP and write its embeddings as a Zarr field.

`api` has what a notebook needs: `train`, `plan`, `rasterize`, `publish`, `UniGeoCLIP`. The command
`unigeo-produce` calls the same functions of `pipeline`.
"""
