"""Which run was at work when, on which lane: as many lanes as ran at once, coloured by how each ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rlhf.report.chart import Figure
from rlhf.report.paper import Sheet, scale
from sweeps.answer.folder import PARENTS, TRIALS, Study
from sweeps.logbook import Stay

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 1120, 24, 12, 6, 24
LOW, HIGH = 8, 22
"""Height of a lane."""
ROOM = 320
"""Height of all lanes together, unless they are too many for that."""
IDLE = 0.1
"""A time in which nothing ran is cut out if it is longer than this part of the time in which something did."""
LETTER = 7
"""Width of a digit."""
STATUSES = ("finished", "pruned", "infeasible", "failed", "lost", "stopped", "running")


@dataclass(frozen=True)
class Bar:
    """A stay on its lane, in seconds since the first one began, without the times that were cut out."""

    stay: Stay
    lane: int
    start: float
    end: float


def bars(stays: Sequence[Stay], now: float) -> tuple[list[Bar], list[float]]:
    """The stays, each on the lowest lane that is free, and where times without work were cut out.

    ``stays`` are in the order they began; those that have not ended last until ``now``.
    """
    cuts = _cuts(stays, now)
    free: list[float] = []
    found = []
    for stay in stays:
        end = now if stay.ended is None else stay.ended
        lane = next((at for at, since in enumerate(free) if since <= stay.began), len(free))
        free[lane:] = [end, *free[lane + 1 :]]
        out = sum(length for at, length in cuts if at <= stay.began)
        zero = stays[0].began + out
        found.append(Bar(stay, lane, stay.began - zero, max(stay.began, end) - zero))
    places, out = [], 0.0
    for at, length in cuts:
        out += length
        places.append(at - stays[0].began - out)
    return found, places


def figure(study: Study) -> Figure | None:
    """The drawing."""
    if not study.stays:
        return None
    found, cuts = bars(study.stays, study.now)
    lanes = 1 + max(bar.lane for bar in found)
    each_lane = max(LOW, min(HIGH, ROOM // lanes))
    sheet = Sheet(WIDTH, TOP + lanes * each_lane + BOTTOM, LEFT, RIGHT, TOP, BOTTOM)
    length = max(max(bar.end for bar in found), 1e-3)
    to_x = scale(0.0, length / _unit(length)[0], LEFT, WIDTH - RIGHT, margin=0.0)
    parts = [sheet.below(to_x(value), f"{value:g} {_unit(length)[1]}") for value in to_x.ticks(8)]
    for lane in range(lanes):
        y = TOP + (lane + 0.5) * each_lane + 3.5
        parts.append(Markup('<text class="tick y" x="{}" y="{}">{}</text>').format(LEFT - 6, y, lane + 1))
    for cut in cuts:
        x, low = to_x(cut / _unit(length)[0]), sheet.height - BOTTOM
        line = '<line class="ref" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"><title>nothing ran here for a while</title></line>'
        parts.append(Markup(line).format(x, x, TOP, low))
    for bar in found:
        left, right = to_x(bar.start / _unit(length)[0]), to_x(bar.end / _unit(length)[0])
        parts.append(_drawn(bar, left, max(1.0, right - left - 0.6), each_lane))
    return Figure("lane", f"{len(found)} runs", sheet.svg(parts, "timeline"))


def kind(stay: Stay) -> str:
    """What decides its colour: its status, or that it is a parent's."""
    return "parent" if stay.folder.startswith(PARENTS) and stay.status == "finished" else stay.status


def _drawn(bar: Bar, left: float, width: float, height: int) -> Markup:
    y = TOP + bar.lane * height + 1
    name = bar.stay.folder.removeprefix(TRIALS)
    reason = f" ({bar.stay.reason})" if bar.stay.reason else ""
    told = f"{name} {bar.stay.status}{reason}, {bar.end - bar.start:.0f} s"
    box = '<rect class="stay s-{}" x="{:.1f}" y="{}" width="{:.1f}" height="{}" rx="2"><title>{}</title></rect>'
    parts = Markup(box).format(kind(bar.stay), left, y, width, height - 2, told)
    shown = _called(bar.stay)
    if height >= HIGH - 6 and width > LETTER * len(shown) + 4:
        text = '<text class="inbar" x="{:.1f}" y="{:.1f}">{}</text>'
        parts += Markup(text).format(left + width / 2, y + height / 2 + 3, shown)
    return parts


def _called(stay: Stay) -> str:
    """The stage of a parent; the number of a trial, with the seed where there are several."""
    if stay.folder.startswith(PARENTS):
        return stay.folder.removeprefix(PARENTS).partition("-")[0]
    number, _, seed = stay.folder.removeprefix(TRIALS).partition("/")
    return f"{int(number)}·{seed}" if seed else str(int(number))


def _cuts(stays: Sequence[Stay], now: float) -> list[tuple[float, float]]:
    """Where a time without work ends that is left out, and how long it was."""
    gaps, busy, until = [], 0.0, stays[0].began
    for stay in stays:
        end = now if stay.ended is None else stay.ended
        if stay.began > until:
            gaps.append((stay.began, stay.began - until))
        busy += max(0.0, end - max(until, stay.began))
        until = max(until, end)
    return [(at, length) for at, length in gaps if length > IDLE * busy]


def _unit(seconds: float) -> tuple[float, str]:
    return (3600.0, "h") if seconds > 7200 else (60.0, "min") if seconds > 120 else (1.0, "s")
