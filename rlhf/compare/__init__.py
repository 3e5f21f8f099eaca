"""``python -m rlhf compare RUN RUN ...``: what sets runs apart, what came of it, and how sure that is."""
