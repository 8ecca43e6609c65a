"""Names of fields: which fields are known, and which one is read where none is named.

Start with `known_fields.address_of`, which turns a name into an address.
"""
