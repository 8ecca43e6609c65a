"""Train UniGeoCLIP and write its embeddings as a Zarr field."""
