"""Rasterization: the vectors of every cell, written shard by shard, here or on many machines.

`run.fill` does the missing tasks of a `RasterJob` with the local or the dask executor. Both use
`shard_task` (cells, batches, objects of one shard) and `shard_commit`, which writes the status
last. `encoding.encoder_of` turns a model into the `ShardEncoder` that they call.
"""
