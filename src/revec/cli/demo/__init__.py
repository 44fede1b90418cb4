"""An example to look at: the docstrings of Python's own library, questions about them, a migration."""
