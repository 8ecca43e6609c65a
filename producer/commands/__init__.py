"""The command `unigeo-produce` and its sub-commands.

`cli.main` is the entry point; `options` has what several commands share. Each command turns its
options into settings, calls one function of another room, and prints what that returns.
"""
