"""The page beside a field: served here, or written for any web server.

`page_server.PageServer` serves a store and its page; `exported_page.export_page` writes the page.
"""
