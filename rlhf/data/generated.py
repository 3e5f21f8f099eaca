"""Examples of the built-in world, generated: no file, no download, and a known gold reward."""

from collections.abc import Callable
from random import Random

from rlhf.config import PARTS, Format, SourceConfig
from rlhf.data import world
from rlhf.data.partition import generator
from rlhf.data.records import Example, Turn
from rlhf.fault import Fault

HELD_OUT = 3072
"""Held-out examples of each stage, or as many as are drawn for training if those are fewer."""

OF_WORLD = (Format.world, Format.world_labels)
"""Formats of the world: comparisons as pairs, or as single answers with a label."""

Gold = Callable[[tuple[Turn, ...], str], float]


def generate(name: str, config: SourceConfig, seed: int) -> dict[tuple[str, str], list[Example]]:
    """``config.cap`` training examples and at most ``HELD_OUT`` held-out ones for each stage of the source, by (stage, split).

    Training examples are drawn with ``seed``; the held-out ones are the same for every seed, so that runs with different
    seeds sit the same exam. Which prompts are held out is the world's own choice: combinations never seen in training.

    Raises:
        Fault: there is no cap.
    """
    if config.cap is None:
        raise Fault(f"data.sources.{name}.cap=null: the built-in world has no last row; set how many to generate, say 8000")
    town, parts = world.World(), {}
    for stage in sorted(set(config.stages), key=PARTS.index):
        for split, count in (("train", config.cap), ("held_out", min(HELD_OUT, config.cap))):
            drawn = seed if split == "train" else "exam"
            draw = _judged if (stage, config.format) == ("rm", Format.world_labels) else _draw
            chance = generator("world", stage, split, drawn)
            parts[stage, split] = [draw(town, stage, chance, split == "held_out", name) for _ in range(count)]
    return parts


def gold(turns: tuple[Turn, ...], response: str) -> float:
    """The world's true reward of a response."""
    return world.World().gold(turns[-1].text, response)


def _draw(town: world.World, stage: str, chance: Random, held_out: bool, name: str) -> Example:
    if stage == "rm":
        drawn = town.pair(chance, held_out)
        return Example(_turns(drawn.prompt), drawn.chosen, drawn.rejected, name, drawn.probability)
    prompt = town.prompt(chance, held_out)
    if stage == "pretrain":
        return Example((), f"{prompt} {town.reply(chance, prompt)}", None, name)
    return Example(_turns(prompt), town.reply(chance, prompt) if stage == "sft" else None, None, name)


def _judged(town: world.World, stage: str, chance: Random, held_out: bool, name: str) -> Example:
    drawn = town.judgement(chance, held_out)
    return Example(_turns(drawn.prompt), drawn.reply, None, name, rating=float(drawn.good), demonstrates=drawn.good)


def _turns(prompt: str) -> tuple[Turn, ...]:
    return (Turn("user", prompt),)
