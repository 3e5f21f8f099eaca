"""What a policy gained over how far it went."""

from typing import Any

from rlhf.report import distance


def row(round_: int, kl: float, **gains: float | str) -> dict[str, Any]:
    return {"round": round_, "kind": "eval", "eval/kl": kl, **{f"reward/{name}": value for name, value in gains.items()}}


def test_a_gain_is_drawn_over_the_nats_it_took() -> None:
    rows = [
        row(0, 0.0, gain=0.0, gold_gain=0.0),
        {"round": 1, "kind": "train", "eval/kl": 9.0},
        row(2, 1.5, gain=2.0, gold_gain=1.0),
    ]
    gain, gold = distance.figures(rows)
    assert (gain.title, gain.note, gain.legend) == ("reward/gain", "2 at 1.5 nats", [])
    assert gold.note == "1 at 1.5 nats" and "<title>policy at 1.5: 1</title>" in gold.drawing


def test_choosing_among_answers_of_the_start_stands_beside_it() -> None:
    best = {"best_of/kl_bound/2": 0.193, "best_of/gain/2": 0.5, "best_of/kl_bound": 0.636, "best_of/gain": 0.75}
    rows = [row(0, 0.0, gain=0.0) | best, row(2, 0.5, gain=0.6)]
    (figure,) = distance.figures(rows)
    assert [name for name, _ in figure.legend] == ["policy", "best of n"]
    for place in ("0: 0", "0.193: 0.5", "0.636: 0.75"):
        assert f"<title>best of n at {place}</title>" in figure.drawing


def test_one_evaluation_and_what_is_no_number_make_no_chart() -> None:
    assert list(distance.figures([row(0, 0.0, gain=0.0)])) == []
    assert list(distance.figures([row(0, 0.0, gain=0.0), row(2, 1.0, gain="nan")])) == []
