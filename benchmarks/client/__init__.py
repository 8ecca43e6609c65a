"""Timings of the client beside other readers of the same store: `python -m benchmarks.client`.

`cases` lists what is timed and the goals; `readers` holds one function per way of reading, and
`measuring.race` lets them take turns. `layouts`, `probes`, `zonal` and `discs` are commands of
their own.
"""
