"""Observations of the five modalities: functions from location to what is observed there.

`protocol.Observations` is the interface, and `open_named.open_named` opens any implementation: the
embedded world (`synthetic`), a folder of own data (`folder`), or a set that
`unigeo-produce observe` built (`observation_set`).
"""
