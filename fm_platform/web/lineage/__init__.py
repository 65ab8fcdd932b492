"""The lineage page: the graph of any moment, every record, and what differs between two.

`app.make_app` is the server, `static/` the page. The page is drawn by our own scripts; nothing is
fetched from anywhere else.
"""
