"""What a key, a metric or a term means, with the numbers of a run: ``python -m rlhf explain WORD [key=value ...]``."""
