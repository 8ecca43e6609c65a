"""The `unigeo` command: one sub-command for each verb of a field.

Start with `cli.unigeo`, the group of commands. `points`, `areas`, `cells`, `probe` and `store`
define the commands, `options` the options they share; `table_parts` runs a command over a table of
any size.
"""
