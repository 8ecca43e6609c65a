"""Verifies a published store against its own manifest.

Start with `verify.verify_store`. The other modules each check one kind of object and return
`Problem` values; the report holds their sentences.
"""
