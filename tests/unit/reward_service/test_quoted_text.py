"""The text that an instruction wants in a picture, and how close a text that was read comes to it."""

import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from edit_r1.reward_service.measures.quoted_text import UnclearTextError, similarity, wanted_text


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        ('Write "SOLD" on the sign', "SOLD"),
        ("Write “SOLD OUT” on the sign", "SOLD OUT"),
        ("Don't change the font, but write 'it's' on the Joneses' door", "it's"),
        ("Schreibe „Guten Tag“ auf das Schild", "Guten Tag"),
        ("Écris « fermé » sur la porte", "fermé"),
        ("把文字改成「今日休息」", "今日休息"),
        ("Change \"SALE\" to 'SOLD'", "SOLD"),
        ('Replace the word "A" with the text: "B"', "B"),
        ("将“开”改为“关”", "关"),
    ],
)
def test_the_text_in_quotation_marks(instruction, text):
    assert wanted_text(instruction) == text


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("Make the sign red, don't touch the rest of the Joneses' door", "no text in quotation marks"),
        ('Write "" on it', "no text in quotation marks"),
        ('Remove the text "SALE"', "asks to remove 'SALE'"),
        ('Add "B" next to "A"', "unclear which of the instruction's 2"),
        ('Write "A" and "B"', "unclear which of the instruction's 2"),
    ],
)
def test_an_unclear_text_is_no_text(instruction, reason):
    with pytest.raises(UnclearTextError, match=reason):
        wanted_text(instruction)


def close(read, wanted):
    return similarity(read, wanted, regex.compile(r"\X").findall, Levenshtein.normalized_similarity)


@given(st.text(min_size=1).filter(str.strip), st.lists(st.text(max_size=5), max_size=3))
def test_the_text_itself_is_found_among_other_lines(text, others):
    assert close([*others, unicodedata.normalize("NFD", text), *others], text)[0] == 1
    value, _ = close(others, text)
    assert 0 <= value <= 1


def test_each_wrong_character_costs_its_share():
    assert close(["OPEN", "now"], "OPEN NOW")[0] == pytest.approx(1 - 3 / 7)
    assert close(["cafe"], "cafe\u0301")[0] == pytest.approx(3 / 4)
    assert close(["👩‍👩‍👧 ok"], "👩‍👩‍👧 no")[0] == pytest.approx(1 - 2 / 3)
    assert close([], "OPEN") == (0, "")
