"""The operator's page of the proxy, under ``/_gewe-cache/``.

``site`` puts it together on starlette-admin. ``guard`` stands before everything of it: who has no session sees
the login page and nothing else, and no other site's page changes anything. What is shown is asked in threads and
on connections of its own (``asking``), so that nothing looked at here holds up a send.
"""
