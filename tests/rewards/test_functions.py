"""Built-in rules, by hand."""

import pytest

from rlhf.rewards.functions import answer, length, regex


@pytest.mark.parametrize(
    ("response", "expected"), [("", -1.0), ("a b c d", 0.0), ("a b", -0.5), ("a b c d e f", -0.5), ("a " * 40, -1.0)]
)
def test_length_is_best_at_its_target(response: str, expected: float) -> None:
    assert length(response, target_words=4) == expected


def test_a_pattern_is_found_anywhere_also_over_lines() -> None:
    assert regex("<think>one\ntwo</think> three", r"<think>.*</think>") == 1.0
    assert regex("one two", r"<think>") == 0.0


@pytest.mark.parametrize(
    ("response", "solution", "expected"),
    [
        ("So 3 + 4 = 7. The answer is 7.", "3+4=<<3+4=7>>7\n#### 7", 1.0),
        ("7, or rather 8", "#### 7", 0.0),
        ("1,234.50 dollars", "#### 1234.5", 1.0),
        ("It is -5", "#### 5", 0.0),
        ("007", "#### 7", 1.0),
        ("no number", "#### 7", 0.0),
        ("0.0", "0", 1.0),
        ("-0.0", "0", 1.0),
        ("It is -0.5", "#### 0.5", 0.0),
        ("It is .5", "#### 5", 0.0),
        ("It is 0.5", "#### .5", 1.0),
        ("3-5 days", "#### 5", 1.0),
        ("from 3 to -5", "#### -5", 1.0),
        ("a loss of $-5.", "#### -5", 1.0),
        ("a loss of -$5.", "#### -5", 1.0),
        ("It is \u22125", "#### -5", 1.0),
        ("It is \u20135", "#### 5", 0.0),
        ("pages 3\u20135", "#### 5", 1.0),
        ("one of 3,5", "#### 5", 1.0),
        ("12,345,678", "#### 12345678", 1.0),
        ("section 1.2.3", "#### 3", 1.0),
        ("9" * 5000, "#### 9", 0.0),
        ("0" * 5000 + "9", "#### 9", 1.0),
        ("12345678901234567890123456789012345", "#### 12345678901234567890123456789012346", 0.0),
    ],
)
def test_answers_agree_by_their_last_number(response: str, solution: str, expected: float) -> None:
    assert answer(response, solution) == expected


def test_an_answer_may_be_found_by_a_pattern_of_ones_own() -> None:
    pattern = r"Answer:\s*(yes|no)"
    assert answer("Answer: yes, or no", "Answer:  yes", pattern) == 1.0
    assert answer("yes", "Answer: yes", pattern) == 0.0


def test_a_pattern_whose_group_is_left_out_has_found_no_answer() -> None:
    assert answer("a", "3", r"a|(\d+)") == 0.0
    assert answer("a", "a", r"a|(\d+)") == 0.0  # nothing to compare is not the same
    assert answer("total: -0.50", "total: -.5", r"total: (\S+)") == 1.0
