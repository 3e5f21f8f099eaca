"""``python -m rlhf doctor RUN``: what the record of a run says is wrong with it, with evidence and the knob to turn."""
