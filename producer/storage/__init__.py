"""Storage: objects of a field written whole or not at all, to a folder or any object store.

`field_store.create_field` begins a store or opens one again, `shard_codec` makes and reads the
objects of shards, `staged_groups` writes small groups, `object_io` and `objects` single objects.
`code_identity` hashes the code that decides what is stored.
"""
