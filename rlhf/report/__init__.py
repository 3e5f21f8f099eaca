"""What a run's folder says, as one page: read, drawn and written without torch, a network or a script."""
