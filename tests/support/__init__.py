"""What tests share: small stores, servers on loopback, child processes, tables, training runs.

`stores` builds published stores in seconds, `servers` and `gcs_server` serve them, `faulty_proxy`
breaks connections, `commands` runs the commands as a shell does.
"""
