"""Sampling of responses. Plain transformers forward passes; DeepSpeed's hybrid engine does not work with transformers 5."""
