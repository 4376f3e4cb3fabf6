"""Parsing judges' answers: numbers, reasoning, and the score token."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.reward_service.methods.answers import closing_text, parse_reasoning, parse_score, score_position
from edit_r1.shared.errors import UnparsableAnswerError

MARKER = '"Score": '
LABELS = tuple("012345")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("4", 4.0),
        (" 3.5 ", 3.5),
        ("[[2]]", 2.0),
        ('"Score": [[4]](0-5).', 4.0),
        ('"Score": 0', 0.0),
        ("score: 5/5", 5.0),
        ("4 out of 5", 4.0),
        ('"Reasoning": "the 2 squares of 3 are red", "Score": 1', 1.0),
        ('"Reasoning": "it said Score: 5 before", "Score": [[1]]', 1.0),
    ],
)
def test_the_stated_score_is_found(text, score):
    assert parse_score(text, 0, 5) == score


@pytest.mark.parametrize("text", ["", "good", "between 3 and 4", "[[rating]]", "Score: 7", "-1", '"Score": "good"'])
def test_what_states_no_score_is_an_error(text):
    with pytest.raises(UnparsableAnswerError):
        parse_score(text, 0, 5)


@given(st.text())
def test_any_text_is_a_score_in_range_or_an_error(text):
    with contextlib.suppress(UnparsableAnswerError):
        assert 0 <= parse_score(text, 0, 5) <= 5


def test_reasoning_is_what_stands_before_the_score():
    assert parse_reasoning('"Reasoning": "the car is red",\n"Score": 5') == "the car is red"
    assert parse_reasoning("the car") == "the car"


@pytest.mark.parametrize(
    ("pieces", "position"),
    [
        (['"', "Score", '":', " ", "4", "<|im_end|>"], 4),
        (["4 cars, ", '"Score": ', "3"], 2),
        (['"Score": ', "[[", "2", "]]"], 2),
        (['"Score"', ":", ' "', "1", '"'], 3),
        (['"Score": ', "good", " 4", "4"], None),
        (['"Score": ', "7", "4"], None),
        (["no marker", "4"], None),
        (['"Score": '], None),
        ([], None),
    ],
)
def test_the_score_token_is_the_label_after_the_marker(pieces, position):
    assert score_position(pieces, MARKER, LABELS) == position


@given(st.lists(st.sampled_from(["a", " ", '"', "4", "[", "Score"]), max_size=8), st.sampled_from(LABELS))
def test_the_position_does_not_depend_on_the_reasoning(reasoning, label):
    pieces = [*reasoning, "\n", MARKER, label]
    assert score_position(pieces, MARKER, LABELS) == len(pieces) - 1


@pytest.mark.parametrize(
    "text", ["", "so", '"Reasoning": "so', '"Reasoning": "so", "Score":', '"Score": ', '"Score": [[', '"Score": 9']
)
def test_after_closing_a_label_must_come_next(text):
    assert score_position([text, closing_text(text, MARKER), "3"], MARKER, LABELS) == 2
