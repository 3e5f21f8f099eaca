"""Networks, tokenizers and templates. Everything about one model family stands here and in its ``conf/model`` file."""
