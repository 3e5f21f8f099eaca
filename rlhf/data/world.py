"""The demo world: a pure-Python generator of questions at a town's information desk, with a known true reward.

A visitor asks when a place opens; the desk replies. A good reply greets first, answers the question that was asked,
answers it truthfully, explains only after it has answered, closes politely at the very end, finishes its last sentence
and does not repeat itself. :meth:`World.gold` scores exactly that, so a reward model and a policy trained on this world
can be judged against the truth and not only against each other.

Nearly every phrase has a good and a bad use (a greeting is welcome at the start and odd in the middle, an hour is true
of one place only), so that counting words or measuring length says little about which reply is better. Prompts are
split by (place, day) cell: a held-out prompt combines a place and a day that no training prompt combines.
"""

import math
import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

VERSION = "1"  # change it whenever a seed would produce different text or a different gold score
PLACES = ("bakery", "harbour", "library", "museum", "castle", "theatre")
OPENING_HOURS = dict(zip(PLACES, ("six", "seven", "nine", "ten", "eleven", "two"), strict=True))
REASONS = {
    "bakery": "the bread is baked at night",
    "harbour": "the boats come in early",
    "library": "the students read before lunch",
    "museum": "the guides arrive by train",
    "castle": "the old gate is heavy",
    "theatre": "the actors rehearse until then",
}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COMPANIONS = ("sister", "brother", "mother", "father", "friend", "teacher", "daughter", "son")
QUESTIONS = (
    "When does the {place} open on {day}?",
    "Please tell me when the {place} opens on {day}.",
    "At what time can I visit the {place} on {day}?",
    "I want to see the {place} with my {companion} on {day}. When can we come?",
    "My {companion} and I are going to the {place} on {day}. When does it open?",
    "On {day} my {companion} would like to visit the {place}. What time is best?",
    "Do you know when I can take my {companion} to the {place} on {day}?",
    "How early may we enter the {place} on {day}?",
)
GREETINGS = ("Hello!", "Good morning!", "Welcome to our town!")
ANSWERS = (
    "The {place} opens at {hour}.",
    "You can visit the {place} from {hour}.",
    "Visitors may enter the {place} at {hour}.",
)
EXPLANATIONS = ("This is because {reason}.", "They chose that hour because {reason}.")
CLOSINGS = ("Have a nice day!", "Enjoy your visit!", "Thank you for asking!")

# What each trait is worth to a reader. The first answer is judged; an hour and a reason must fit the place it names.
RIGHT_PLACE, WRONG_PLACE = 0.9, -0.9
RIGHT_HOUR, WRONG_HOUR = 0.7, -0.7
FITTING_REASON, MISPLACED_REASON = 0.9, -0.4
GREETING_FIRST, GREETING_LATER = 0.7, -0.9
CLOSING_LAST, CLOSING_EARLIER = 0.7, -0.9
NO_ANSWER, EXTRA_ANSWER = -2.5, -0.4
UNKNOWN_SENTENCE, UNFINISHED, LOWEST = -0.6, -1.2, -5.0
REPETITION = -4.0  # times the share of repeated three-word sequences


@dataclass(frozen=True)
class Preference:
    """Two replies to one prompt, ordered by a noisy label."""

    prompt: str
    chosen: str
    rejected: str
    probability: float  # Bradley-Terry probability of the drawn label; Bayes accuracy is the mean of max(p, 1 - p)


@dataclass(frozen=True)
class Judgement:
    """One reply to a prompt, and whether a noisy reader called it good."""

    prompt: str
    reply: str
    good: bool


@dataclass(frozen=True)
class _Plan:
    """What the demonstrator decided to say, before it is put in order and rendered."""

    asked: str
    answer: str
    place: str
    hour: str
    explanation: str
    reason: str
    explains_first: bool
    greeting: str
    greets_first: bool
    closing: str
    closes_last: bool
    rambles: bool
    dropped_words: int


@dataclass(frozen=True)
class World:
    """Prompts, imperfect replies and noisy preferences; the first seven fields are the demonstrator's probabilities."""

    right: float = 0.75  # gets the place right; likewise the hour, and the reason
    orderly: float = 0.65  # puts the greeting where it belongs; likewise the reason, and the closing
    explains: float = 0.6  # gives a reason
    greets: float = 0.65  # greets
    closes: float = 0.65  # closes politely
    rambles: float = 0.15  # says its answer twice
    breaks_off: float = 0.15  # stops in the middle of its last sentence
    edited: float = 0.5  # share of pairs whose replies differ in one decision; the others are two independent replies
    temperature: float = 0.6  # label noise: P(a preferred to b) = sigmoid((gold(a) - gold(b)) / temperature)
    expected: float = 0.7  # the demonstrator's median gold; P(a called good) = sigmoid((gold(a) - expected) / temperature)

    def prompt(self, rng: random.Random, held_out: bool) -> str:
        """Draw a question from the held-out or from the training (place, day) cells."""
        while True:
            place, day = rng.choice(PLACES), rng.choice(DAYS)
            if _held_out_cell(place, day) == held_out:
                return rng.choice(QUESTIONS).format(place=place, day=day, companion=rng.choice(COMPANIONS))

    def is_held_out(self, prompt: str) -> bool:
        """Say whether the prompt combines a place and a day that no training prompt combines."""
        place, day = _first_of(PLACES, prompt), _first_of(DAYS, prompt)
        return place is not None and day is not None and _held_out_cell(place, day)

    def reply(self, rng: random.Random, prompt: str) -> str:
        """Draw a reply of the imperfect demonstrator."""
        return _render(rng, self._plan(rng, prompt))

    def pair(self, rng: random.Random, held_out: bool) -> Preference:
        """Draw a prompt, two different replies and a Bradley-Terry label from their gold scores."""
        prompt = self.prompt(rng, held_out)
        first = second = ""
        while first == second:
            plan = self._plan(rng, prompt)
            other = _edit(rng, plan) if rng.random() < self.edited else self._plan(rng, prompt)
            order = rng.getrandbits(64)  # both are rendered alike, so that an edit changes one thing only
            first, second = _render(random.Random(order), plan), _render(random.Random(order), other)
        probability = self._probability(self.gold(prompt, first) - self.gold(prompt, second))
        if rng.random() < probability:
            return Preference(prompt, first, second, probability)
        return Preference(prompt, second, first, 1.0 - probability)

    def judgement(self, rng: random.Random, held_out: bool) -> Judgement:
        """Draw a prompt, one reply, and whether a reader who expects what is usual calls it good."""
        prompt = self.prompt(rng, held_out)
        reply = self.reply(rng, prompt)
        return Judgement(prompt, reply, rng.random() < self._probability(self.gold(prompt, reply) - self.expected))

    def _probability(self, gap: float) -> float:
        return 0.5 * (1.0 + math.tanh(0.5 * (gap / self.temperature)))  # the sigmoid, safe from overflow

    def gold(self, prompt: str, reply: str) -> float:
        """Score any reply, well formed or not; higher is better. The weights stand at the top of the module."""
        sentences = [part.strip() for part in re.findall(r"[^.!?]*[.!?]|[^.!?]+", reply) if part.strip()]
        if not sentences:
            return LOWEST
        finished = sentences[-1][-1] in ".!?"
        score = REPETITION * repetition(reply) + (0.0 if finished else UNFINISHED)
        place: str | None = None  # named by the first answer
        for position, sentence in enumerate(sentences if finished else sentences[:-1]):
            if sentence in GREETINGS:
                score += GREETING_FIRST if position == 0 else GREETING_LATER
            elif sentence in CLOSINGS:
                score += CLOSING_LAST if position == len(sentences) - 1 else CLOSING_EARLIER
            elif explanation := _match(_EXPLANATIONS, sentence):
                fits = place is not None and explanation["reason"] == REASONS[place]
                score += FITTING_REASON if fits else MISPLACED_REASON
            elif not (answer := _match(_ANSWERS, sentence)):
                score += UNKNOWN_SENTENCE
            elif place is not None:
                score += EXTRA_ANSWER
            else:
                place = answer["place"]
                score += RIGHT_PLACE if place == _first_of(PLACES, prompt) else WRONG_PLACE
                score += RIGHT_HOUR if answer["hour"] == OPENING_HOURS[place] else WRONG_HOUR
        return max(LOWEST, score + (NO_ANSWER if place is None else 0.0))

    def _plan(self, rng: random.Random, prompt: str) -> _Plan:
        """Decide what to say, getting each part right only some of the time."""
        asked = _first_of(PLACES, prompt)
        if asked is None:
            raise ValueError(f"the prompt names no place of this world: {prompt!r}")
        place = self._mostly(rng, asked, PLACES)
        return _Plan(
            asked=asked,
            answer=rng.choice(ANSWERS),
            place=place,
            hour=self._mostly(rng, OPENING_HOURS[place], list(OPENING_HOURS.values())),
            explanation=rng.choice(EXPLANATIONS) if rng.random() < self.explains else "",
            reason=self._mostly(rng, REASONS[place], list(REASONS.values())),
            explains_first=rng.random() > self.orderly,
            greeting=rng.choice(GREETINGS) if rng.random() < self.greets else "",
            greets_first=rng.random() < self.orderly,
            closing=rng.choice(CLOSINGS) if rng.random() < self.closes else "",
            closes_last=rng.random() < self.orderly,
            rambles=rng.random() < self.rambles,
            dropped_words=rng.randint(1, 4) if rng.random() < self.breaks_off else 0,
        )

    def _mostly(self, rng: random.Random, right: str, options: Sequence[str]) -> str:
        """Return the right option with probability ``self.right``, else one of the wrong ones."""
        return right if rng.random() < self.right else rng.choice([option for option in options if option != right])


def repetition(text: str) -> float:
    """Return the share of the text's three-word sequences that have occurred in it before."""
    words = re.findall(r"[\w']+", text.lower())
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return 1.0 - len(set(triples)) / len(triples) if triples else 0.0


def _edit(rng: random.Random, plan: _Plan) -> _Plan:
    """Turn one decision of the plan around."""
    name = rng.choice(("place", "hour", "reason", "explains_first", "greets_first", "closes_last", "rambles"))
    if name == "place":  # the hour and the reason become true of the place now named
        elsewhere = rng.choice([place for place in PLACES if place != plan.place])
        place = elsewhere if plan.place == plan.asked else plan.asked
        return replace(plan, place=place, hour=OPENING_HOURS[place], reason=REASONS[place])
    decision: Any = not getattr(plan, name)
    if name in ("hour", "reason"):
        table = OPENING_HOURS if name == "hour" else REASONS
        wrong = rng.choice([table[place] for place in PLACES if place != plan.place])
        decision = wrong if getattr(plan, name) == table[plan.place] else table[plan.place]
    return replace(plan, **{name: decision})


def _render(rng: random.Random, plan: _Plan) -> str:
    """Put the planned sentences in order and cut the text where the plan breaks off."""
    answer = plan.answer.format(place=plan.place, hour=plan.hour)
    parts = [answer]
    if plan.explanation:
        parts.insert(0 if plan.explains_first else 1, plan.explanation.format(reason=plan.reason))
    if plan.rambles:
        parts.append(answer)
    if plan.greeting:
        parts.insert(0 if plan.greets_first else rng.randint(1, len(parts)), plan.greeting)
    if plan.closing:
        parts.insert(len(parts) if plan.closes_last else rng.randrange(len(parts)), plan.closing)
    words = " ".join(parts).split()  # more of them than a plan may drop
    return " ".join(words[: len(words) - plan.dropped_words])


def _first_of(options: Collection[str], text: str) -> str | None:
    """Return the first word of the text that is one of the options."""
    return next((word for word in re.findall(r"\w+", text) if word in options), None)


def _held_out_cell(place: str, day: str) -> bool:
    """Hold out one (place, day) cell in five, or nearly; training still sees every place and every day."""
    return (3 * PLACES.index(place) + DAYS.index(day)) % 5 == 0


def _patterns(templates: Sequence[str], **slots: Collection[str]) -> list[re.Pattern[str]]:
    """Compile each template to a regular expression with one named group per slot."""
    groups = {name: f"(?P<{name}>{'|'.join(options)})" for name, options in slots.items()}
    return [re.compile(template.replace(".", r"\.").format(**groups)) for template in templates]


def _match(patterns: Sequence[re.Pattern[str]], sentence: str) -> dict[str, str] | None:
    """Return the slots of the first pattern that the whole sentence follows, or None."""
    return next((match.groupdict() for pattern in patterns if (match := pattern.fullmatch(sentence))), None)


_ANSWERS = _patterns(ANSWERS, place=PLACES, hour=OPENING_HOURS.values())
_EXPLANATIONS = _patterns(EXPLANATIONS, reason=REASONS.values())
