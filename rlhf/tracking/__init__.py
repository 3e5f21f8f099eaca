"""Where metrics go: the local record, which is the truth, and windows on it that may be slow, down or absent."""
