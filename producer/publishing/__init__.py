"""Publication of a finished store: preview, overviews, search, concepts, manifest, STAC files.

Start with `publish.publish`, which derives everything from the shards and writes the root last.
`announce` writes the STAC item, collection and catalogue beside the store; `releases` copies the
unchanged shards of the previous release into a new one.
"""
