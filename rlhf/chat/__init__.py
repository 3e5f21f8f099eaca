"""A conversation in the terminal with what a run has trained."""
