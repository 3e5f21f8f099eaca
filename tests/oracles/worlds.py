"""Two small worlds in which the best answer is known, as rows of text and as rewards: random walks and rows of digits.

The walks are those of trlX's benchmark (21 nodes, each edge with probability 0.1, seed 1002, ten nodes a walk, the first node
the goal), drawn by our own generator. The digits are after verl's digit completion: a row goes on by the same step, modulo 10.
"""

import random
from collections import deque
from collections.abc import Mapping, Sequence

NODES, EDGE, SEED, LONGEST = 21, 0.1, 1002, 10
NAMES = "abcdefghijklmnopqrstu"
GOAL = "a"
SHOWN, ASKED = 3, 4
"""Fewest digits of a prompt, and how many are to follow."""


def graph() -> dict[str, list[str]]:
    """The nodes each node leads to, at least one; from everywhere there is a way to the goal."""
    for attempt in range(100):
        drawn = random.Random(SEED + attempt)
        edges = {
            node: [other for other in NAMES if other != node and drawn.random() < EDGE] or [drawn.choice(NAMES)]
            for node in NAMES
        }
        if len(distances(edges)) == NODES:
            return edges
    raise AssertionError("no graph in which every node leads to the goal")


def distances(edges: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Steps of the shortest way to the goal, from each node that has one."""
    found, waiting = {GOAL: 0}, deque([GOAL])
    while waiting:
        node = waiting.popleft()
        for other in edges:
            if other not in found and node in edges[other]:
                found[other] = found[node] + 1
                waiting.append(other)
    return found


EDGES = graph()
SHORTEST = distances(EDGES)


def optimality(start: str, walk: Sequence[str]) -> float:
    """1 for the shortest way from ``start`` to the goal, 0 for one that never arrives, or leaves the graph."""
    here, steps = start, 0
    for node in walk:
        if here == GOAL:
            break
        if node not in EDGES[here]:
            return 0.0
        here, steps = node, steps + 1
    if here != GOAL:
        return 0.0
    return (LONGEST - steps) / (LONGEST - SHORTEST[start])


def walk(drawn: random.Random, start: str) -> list[str]:
    """A random walk from ``start``, which it does not name, to the goal or to LONGEST nodes."""
    nodes: list[str] = []
    while (here := nodes[-1] if nodes else start) != GOAL and len(nodes) < LONGEST - 1:
        nodes.append(drawn.choice(EDGES[here]))
    return nodes


def walk_rows(count: int = 3000) -> list[dict[str, str]]:
    """Random walks, cut after one to six nodes: what came first is the prompt."""
    drawn = random.Random(SEED)
    rows = []
    while len(rows) < count:
        start = drawn.choice(NAMES[1:])
        nodes = [start, *walk(drawn, start)]
        cut = drawn.randint(1, 6)
        if cut < len(nodes):
            rows.append({"prompt": " ".join(nodes[:cut]), "response": " ".join(nodes[cut:])})
    return rows


def score_walks(prompts: Sequence[Sequence[Mapping[str, str]]], responses: Sequence[str], solutions: object) -> list[float]:
    """The optimality of each response from the last node of its prompt."""
    lasts = [prompt[-1]["content"].split()[-1] for prompt in prompts]
    return [optimality(last, response.split()) for last, response in zip(lasts, responses, strict=True)]


def digits_after(shown: Sequence[int]) -> list[int]:
    """The digits that are to follow."""
    step = shown[1] - shown[0]
    return [(shown[-1] + step * each) % 10 for each in range(1, ASKED + 1)]


def digit_rows(count: int = 6000, right: float = 0.7) -> list[dict[str, str]]:
    """Rows that go on rightly, each digit with probability ``right`` and else by chance."""
    drawn = random.Random(SEED)
    rows = []
    for _ in range(count):
        first, step = drawn.randrange(10), drawn.randrange(10)
        shown = [(first + step * each) % 10 for each in range(SHOWN + drawn.randrange(6))]
        told = [each if drawn.random() < right else drawn.randrange(10) for each in digits_after(shown)]
        rows.append({"prompt": " ".join(map(str, shown)), "response": " ".join(map(str, told))})
    return rows


def score_digits(prompts: Sequence[Sequence[Mapping[str, str]]], responses: Sequence[str], solutions: object) -> list[float]:
    """The share of right digits; one too many counts as a wrong one."""
    scores = []
    for prompt, response in zip(prompts, responses, strict=True):
        expected = digits_after([int(each) for each in prompt[-1]["content"].split()])
        said = response.split()
        right = sum(each == str(wanted) for each, wanted in zip(said, expected, strict=False))
        scores.append(right / max(len(said), ASKED))
    return scores
