"""The demo world: a pure-Python generator of questions at a town's information desk, with a known true reward.

A visitor asks when a place opens on some day; the desk replies. A good reply greets first, answers the question that was
asked, answers it truthfully, explains only after it has answered, closes politely at the very end, finishes its last
sentence and does not repeat itself. :meth:`World.gold` scores exactly that, so a reward model and a PPO policy
trained on this world can be judged against the truth and not only against each other.

Nearly every phrase has a good and a bad use (a greeting is welcome at the start and odd in the middle, a reason fits one
place and contradicts another), so counting words or measuring length says little about which reply is better.

Prompts are split by (place, day) cell: held-out prompts combine a place and a day that were never seen together in training.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

VERSION = "1"
"""Identifies the generated text; change it whenever a seed would produce different text or a different gold score."""

OPENING_HOURS = {
    "bakery": "six",
    "harbour": "seven",
    "library": "nine",
    "museum": "ten",
    "castle": "eleven",
    "theatre": "two",
}
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

# What each trait of a reply is worth to a reader. Paired entries are (well done, badly done).
RIGHT_PLACE, WRONG_PLACE = 0.9, -0.9
RIGHT_HOUR, WRONG_HOUR = 0.7, -0.7
FITTING_REASON, MISPLACED_REASON = 0.9, -0.4
GREETING_FIRST, GREETING_LATER = 0.7, -0.9
CLOSING_LAST, CLOSING_EARLIER = 0.7, -0.9
NO_ANSWER = -1.5
EXTRA_ANSWER = -0.4
UNKNOWN_SENTENCE = -0.6
UNFINISHED = -1.2
REPETITION = -4.0
LOWEST = -5.0


@dataclass(frozen=True)
class Preference:
    """Two replies to one prompt, ordered by a noisy label."""

    prompt: str
    chosen: str
    rejected: str
    probability: float
    """Bradley-Terry probability of the label that was drawn; the best possible accuracy is the mean of max(p, 1 - p)."""


@dataclass(frozen=True)
class Plan:
    """What the demonstrator decided to say, before it is put in order and rendered."""

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
    """Generator of prompts, imperfect replies and noisy preferences; every draw comes from the caller's ``rng``."""

    right: float = 0.75
    """Probability that the demonstrator gets the place, the hour or the reason right (each on its own)."""
    orderly: float = 0.65
    """Probability that a greeting, a reason or a closing stands where it belongs."""
    explains: float = 0.6
    """Probability that the demonstrator gives a reason."""
    greets: float = 0.65
    """Probability that the demonstrator greets."""
    closes: float = 0.65
    """Probability that the demonstrator closes politely."""
    rambles: float = 0.15
    """Probability that the demonstrator says its answer twice."""
    breaks_off: float = 0.15
    """Probability that the demonstrator stops in the middle of its last sentence."""
    edited: float = 0.5
    """Share of preference pairs whose replies differ in one decision only; the others are two independent replies."""
    temperature: float = 0.6
    """Noise of the preference labels: P(a preferred to b) = sigmoid((gold(a) - gold(b)) / temperature)."""

    def prompt(self, rng: random.Random, held_out: bool) -> str:
        """Draw a question from the held-out or from the training (place, day) cells."""
        while True:
            place, day = rng.choice(list(OPENING_HOURS)), rng.choice(DAYS)
            if _held_out_cell(place, day) == held_out:
                return rng.choice(QUESTIONS).format(place=place, day=day, companion=rng.choice(COMPANIONS))

    def is_held_out(self, prompt: str) -> bool:
        """Say whether the prompt combines a place and a day that training never combines."""
        place, day = _first_of(OPENING_HOURS, prompt), _first_of(DAYS, prompt)
        return place is not None and day is not None and _held_out_cell(place, day)

    def reply(self, rng: random.Random, prompt: str) -> str:
        """Draw a reply of the imperfect demonstrator."""
        return _render(rng, self._plan(rng, prompt))

    def pair(self, rng: random.Random, held_out: bool) -> Preference:
        """Draw a prompt, two different replies and a Bradley-Terry label from their gold scores."""
        prompt = self.prompt(rng, held_out)
        while True:
            plan = self._plan(rng, prompt)
            other = self._edit(rng, plan, prompt) if rng.random() < self.edited else self._plan(rng, prompt)
            order = rng.getrandbits(64)  # the same random order for both, so that an edit changes one thing only
            first, second = _render(random.Random(order), plan), _render(random.Random(order), other)
            if first != second:
                break
        gap = (self.gold(prompt, first) - self.gold(prompt, second)) / self.temperature
        probability = 1.0 / (1.0 + math.exp(-gap))
        if rng.random() < probability:
            return Preference(prompt, first, second, probability)
        return Preference(prompt, second, first, 1.0 - probability)

    def gold(self, prompt: str, reply: str) -> float:
        """Score any reply, well formed or not; higher is better. See the weights at the top of the module."""
        sentences = _sentences(reply)
        if not sentences:
            return LOWEST
        score = REPETITION * repetition(reply)
        if sentences[-1][-1] not in ".!?":
            score += UNFINISHED
            sentences = sentences[:-1]
            ends_well = False
        else:
            ends_well = True
        place: str | None = None
        for position, sentence in enumerate(sentences):
            answer, reason = _match(_ANSWERS, sentence), _match(_EXPLANATIONS, sentence)
            if sentence in GREETINGS:
                score += GREETING_FIRST if position == 0 else GREETING_LATER
            elif sentence in CLOSINGS:
                score += CLOSING_LAST if ends_well and position == len(sentences) - 1 else CLOSING_EARLIER
            elif reason:
                fits = place is not None and REASONS[place] == reason["reason"]
                score += FITTING_REASON if fits else MISPLACED_REASON
            elif not answer:
                score += UNKNOWN_SENTENCE
            elif place is not None:
                score += EXTRA_ANSWER
            else:
                place = answer["place"]
                score += RIGHT_PLACE if place == _first_of(OPENING_HOURS, prompt) else WRONG_PLACE
                score += RIGHT_HOUR if answer["hour"] == OPENING_HOURS[place] else WRONG_HOUR
        if place is None:
            score += NO_ANSWER
        return max(LOWEST, score)

    def _plan(self, rng: random.Random, prompt: str) -> Plan:
        """Decide what to say, getting each part right only some of the time."""
        asked = _first_of(OPENING_HOURS, prompt)
        if asked is None:
            raise ValueError(f"not a prompt of this world: {prompt!r}")
        place = self._mostly(rng, asked, list(OPENING_HOURS))
        return Plan(
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

    def _edit(self, rng: random.Random, plan: Plan, prompt: str) -> Plan:
        """Take one decision of the plan again."""
        name = rng.choice(("place", "hour", "reason", "explains_first", "greets_first", "closes_last", "rambles"))
        if name == "place":  # the hour and the reason stay true of the place named
            place = rng.choice([other for other in OPENING_HOURS if other != plan.place])
            asked = _first_of(OPENING_HOURS, prompt)
            place = asked if asked is not None and asked != plan.place else place
            return replace(plan, place=place, hour=OPENING_HOURS[place], reason=REASONS[place])
        if name in ("hour", "reason"):
            table = OPENING_HOURS if name == "hour" else REASONS
            true, false = table[plan.place], rng.choice([table[place] for place in table if place != plan.place])
            return replace(plan, **{name: false if getattr(plan, name) == true else true})
        return replace(plan, **{name: not getattr(plan, name)})

    def _mostly(self, rng: random.Random, right: str, options: Sequence[str]) -> str:
        """Return the right option with probability ``self.right``, else one of the wrong ones."""
        return right if rng.random() < self.right else rng.choice([option for option in options if option != right])


def repetition(text: str) -> float:
    """Return the share of the text's three-word sequences that have occurred in it before."""
    words = re.findall(r"[\w']+", text.lower())
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return 1.0 - len(set(triples)) / len(triples) if triples else 0.0


def _render(rng: random.Random, plan: Plan) -> str:
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
    words = " ".join(parts).split()
    return " ".join(words[: len(words) - plan.dropped_words])


def _sentences(text: str) -> list[str]:
    """Split at every full stop, question mark and exclamation mark; the last sentence may lack its mark."""
    return [part.strip() for part in re.findall(r"[^.!?]*[.!?]|[^.!?]+", text) if part.strip()]


def _first_of(options: Sequence[str] | dict[str, str], text: str) -> str | None:
    """Return the first word of the text that is one of the options."""
    return next((word for word in re.findall(r"\w+", text) if word in options), None)


def _held_out_cell(place: str, day: str) -> bool:
    """Hold out one (place, day) cell in five, spread so that every place and every day also occurs in training."""
    return (3 * list(OPENING_HOURS).index(place) + DAYS.index(day)) % 5 == 0


def _patterns(templates: Sequence[str], **slots: Sequence[str]) -> list[re.Pattern[str]]:
    """Compile each template to a regular expression with one named group per slot."""
    groups = {name: f"(?P<{name}>{'|'.join(options)})" for name, options in slots.items()}
    return [re.compile(template.replace(".", r"\.").format(**groups)) for template in templates]


_ANSWERS = _patterns(ANSWERS, place=list(OPENING_HOURS), hour=list(OPENING_HOURS.values()))
_EXPLANATIONS = _patterns(EXPLANATIONS, reason=list(REASONS.values()))


def _match(patterns: list[re.Pattern[str]], sentence: str) -> dict[str, str] | None:
    """Return the slots of the first pattern that the whole sentence follows, or None."""
    return next((match.groupdict() for pattern in patterns if (match := pattern.fullmatch(sentence))), None)
