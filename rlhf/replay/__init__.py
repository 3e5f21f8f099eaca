"""One update kept with all it needs, and computed again under other settings."""
