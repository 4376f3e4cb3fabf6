"""Parsing a judge's answers on benchmarks: stated scores count in any formatting, unstated ones are missing."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.shared.errors import UnparsableAnswerError
from edit_r1.workbench.evaluation.parsing import criteria_scores, json_scores, official_mean
from edit_r1.workbench.evaluation.rubrics import CRITERIA

ADD = CRITERIA["add"]
PLAIN = "Brief reasoning: fine.\nPrompt Compliance: 4\nVisual Naturalness: 3\nPhysical & Detail Coherence: 2"


def rated(first: str) -> str:
    return PLAIN.replace("Compliance: 4", f"Compliance: {first}")


def test_both_parsers_agree_on_a_plain_answer():
    assert criteria_scores(PLAIN, ADD) == (4, 3, 2)
    assert official_mean(PLAIN) == 3.0


@pytest.mark.parametrize("dressed", ["4.", "**4**", "4/5", "4 / 5", "4 out of 5", "[4]", "4.0", "`4` "])
def test_a_dressed_up_number_counts_and_the_official_parser_takes_the_mean_of_the_rest(dressed):
    assert criteria_scores(rated(dressed), ADD) == (4, 3, 2)
    assert official_mean(rated(dressed)) == 2.5


@pytest.mark.parametrize(
    "line",
    ["**Prompt Compliance**: 4", "**Prompt Compliance:** 4", "1. Prompt Compliance: 4", "- Prompt compliance score: 4"],
)
def test_a_dressed_up_name_counts(line):
    assert criteria_scores(PLAIN.replace("Prompt Compliance: 4", line), ADD) == (4, 3, 2)


def test_what_was_only_thought_does_not_count():
    assert criteria_scores(f"<think>Prompt Compliance: 2? No.\nPrompt Compliance: 3</think>\n{PLAIN}", ADD) == (4, 3, 2)
    assert json_scores('<think>{"score": [1, 1]}?</think>{"score": [7, 9]}', 2) == (7, 9)


def test_and_may_be_spelt_out():
    assert criteria_scores(PLAIN.replace("&", "and"), ADD) == (4, 3, 2)


@pytest.mark.parametrize("stated", ["", "four", "4.5", "0", "6", "-4", "4/10", "4 or 5", "a number from 1 to 5"])
def test_what_is_no_score_of_the_scale_is_missing(stated):
    with pytest.raises(UnparsableAnswerError, match="Prompt Compliance"):
        criteria_scores(rated(stated), ADD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot help with that.",
        "Prompt Compliance: 4\nVisual Naturalness: 3",
        f"{PLAIN}\nPrompt Compliance: 5",
        PLAIN.replace("Prompt Compliance", "Instruction Compliance"),
    ],
)
def test_an_answer_without_exactly_its_three_criteria_is_missing(text):
    with pytest.raises(UnparsableAnswerError):
        criteria_scores(text, ADD)


def test_a_stored_error_is_no_score_for_the_official_parser():
    assert official_mean({"error": "timeout"}) is None
    assert official_mean("Sorry.") is None
    assert official_mean("Prompt Compliance: ²") is None
    assert official_mean("Steps: 10\nPrompt Compliance: 5") == 7.5  # it accepts any name and any number


@pytest.mark.parametrize(
    "text",
    [
        '{"score": [7, 9], "reasoning": "ok"}',
        'Here you are:\n```json\n{"reasoning": "a {brace} in it", "score": [7, 9]}\n```\nDone.',
        '||V^=^V||{"score": [7.0, "9"], "reasoning": ""}||V^=^V||',
        "{'score': [7, 9], 'reasoning': 'it's fine'}",
        '{"reasoning": "she said "hi"", "score": [7, 9]',
        '{"score": [7, 9], "reasoning": "line\nbreak"}',
        '{"score": [7, 9]} {"score": [7, 9]}',
    ],
)
def test_json_is_read_through_its_slips(text):
    assert json_scores(text, 2) == (7.0, 9.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[7, 9]",
        "7 and 9",
        '{"score": [7]}',
        '{"score": 7}',
        '{"score": [7, 9, 9]}',
        '{"score": [7, "good"]}',
        '{"score": [7, true]}',
        '{"score": [7, NaN]}',
        '{"score": [7, null]}',
        '{"score": [7, 11]}',
        '{"score": [-1, 9]}',
        '{"score": [7, 9]} no, {"score": [6, 9]}',
        '{"score": [7, 1' + "0" * 400 + "]}",
    ],
)
def test_json_without_two_scores_is_missing(text):
    with pytest.raises(UnparsableAnswerError):
        json_scores(text, 2)


@given(st.text() | st.text(alphabet='{}[]":,score 0123456789.-\n'))
def test_any_text_is_scores_in_range_or_an_error(text):
    with contextlib.suppress(UnparsableAnswerError):
        assert all(0 <= value <= 10 for value in json_scores(text, 2))
    with contextlib.suppress(UnparsableAnswerError):
        assert set(criteria_scores(text, ADD)) <= {1, 2, 3, 4, 5}
    official_mean(text)


@given(st.sampled_from(sorted(CRITERIA)), st.tuples(*[st.integers(1, 5)] * 3))
def test_every_types_answer_is_read_back(name, scores):
    lines = [f"{criterion}: {score}" for criterion, score in zip(CRITERIA[name], scores, strict=True)]
    text = "\n".join(["Brief reasoning: as seen.", *lines])
    assert criteria_scores(text, CRITERIA[name]) == scores
    assert official_mean(text) == round(sum(scores) / 3, 2)
