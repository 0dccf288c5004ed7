"""The command line: ``gewe-cache …``."""
