"""`Field`, and the ways to open one.

Start with `opening.open_field`, which returns a `field.Field`; `accessor` gives Datasets the same
methods as `ds.unigeo`. `similarity`, `search` and `preview` implement the methods of these names.
"""
