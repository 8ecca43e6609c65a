"""Observations of the five modalities: functions from location to what is observed there.

`protocol.Observations` is the interface, and `opening.open_named` opens any of its implementations:
the embedded world (`synthetic`), a folder of own data (`folder`), or a set that
`unigeo-produce observe` built (`observation_set`).
"""
