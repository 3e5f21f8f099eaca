"""How long a stage takes to turn its examples into tokens: in one process, on all cores, and read back from the cache.

    python benchmarks/tokenise.py [rows]

Demonstrations of the built-in world with a number in each prompt, so that no two are alike, about 60 tokens a row.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

from rlhf.config import Template
from rlhf.data.records import Example, Turn
from rlhf.data.world import World
from rlhf.models.tokenizer import train_tokenizer
from rlhf.stages.examples import tokens_of


def main(count: int) -> None:
    """Print the seconds of each way."""
    world, chance = World(), random.Random(0)
    examples = []
    for number in range(count):
        prompt = world.prompt(chance, held_out=False)
        examples.append(Example((Turn("user", f"{number}: {prompt}"),), world.reply(chance, prompt), None, "world"))
    tokenizer = train_tokenizer((example.response or "" for example in examples[:5000]), 1024, Template.roles)
    answers = [[example.response or ""] for example in examples]
    with tempfile.TemporaryDirectory() as folder:
        for way, cache in (("one process", None), ("all cores", Path(folder)), ("from the cache", Path(folder))):
            began = time.perf_counter()
            rows = tokens_of(tokenizer, examples, answers, 512, cache)
            seconds = time.perf_counter() - began
            tokens = sum(len(ids) for row in rows if row is not None for part in row for ids in part)
            print(f"{way}: {count} rows, {tokens} tokens in {seconds:.1f} s, {count / seconds:.0f} rows a second")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
