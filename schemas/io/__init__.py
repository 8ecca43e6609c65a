"""Input and output of every kind: stores by URL, atomic files, TOML files, and retries.

Start with `stores.open_group` and `open_store`; `atomic_files` writes files and folders that are
whole or absent, `retrying` says which failures are tried again, `limits` what is too large to read.
"""
