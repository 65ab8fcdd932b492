"""The page on which people label: one row, one key, written at once.

`desk.Desk` hands out rows and keeps answers, `app.make_app` is the server, `static/` the page.
"""
