"""Real tables that come with the client, for trying and showing what a field is worth.

Start with `example_tables.example`. They are targets: no model is trained on them.
"""
