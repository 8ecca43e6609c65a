"""The format of a field's store: arrays, attributes and groups, and how vectors are coded.

Start with `layout.Layout`, which says what arrays a store has, and `attributes`, the root's
attributes. `quantization` and `sharding` code vectors and shards, `validation` checks a store, and
`manifest`, `overviews`, `search_levels`, `preview`, `encoder` and `concepts` describe its groups.
"""
