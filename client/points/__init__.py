"""Vectors at points: sampled, joined to tables, and encoded.

Start with `at_points.AtPoints`, the base of `client.Field` that has these methods. `join` builds
the tables, and `missing_points` the warning where points have no vector.
"""
