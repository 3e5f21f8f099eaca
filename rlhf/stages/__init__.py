"""One file an algorithm, read top to bottom."""
