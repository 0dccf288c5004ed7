"""The database: operations as sync functions of a SQLAlchemy ``Connection``, run by both drivers.

What every operation promises: it is one transaction; it raises what the database raises (``guard.py`` is
the one place that turns a failure into a miss); it neither logs nor sleeps; it holds no connection
afterwards. Times are aware UTC.
"""
