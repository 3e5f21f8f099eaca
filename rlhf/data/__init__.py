"""From rows of text to the examples a stage trains and is measured on. No torch here."""
