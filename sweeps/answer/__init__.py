"""What came of a study: read from its folder alone, shown as a page and on the terminal, also while it runs."""
