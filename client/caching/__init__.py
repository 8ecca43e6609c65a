"""A disk cache of what was read of remote stores.

Start with `range_database.RangeDatabase`, which keeps runs of bytes by the hash of their object.
"""
