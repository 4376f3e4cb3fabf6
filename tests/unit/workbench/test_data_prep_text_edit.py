"""`edit-r1 data text-edit`: words with a few characters changed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.trainer.tasks.task_list import read_task_list
from edit_r1.workbench.data_prep.resumable_jobs import rng_of
from edit_r1.workbench.data_prep.text_edit import OPERATIONS, alter, can_be_altered
from tests.support.data_commands import data, row, save, write


@given(
    st.text(min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(0, 9),
    st.sets(st.sampled_from(OPERATIONS), min_size=1),
)
def test_an_altered_word_differs_and_keeps_its_length_within_the_changes(word, num_changes, seed, chosen):
    word, operations = word.strip(), tuple(name for name in OPERATIONS if name in chosen)
    if not can_be_altered(word, operations):
        with pytest.raises(ValueError, match="cannot be altered"):
            alter(rng_of(seed, word), word, num_changes, operations)
        return
    after = alter(rng_of(seed, word), word, num_changes, operations)
    assert after != word
    assert after == after.strip() != ""
    assert len(after) <= len(word) + num_changes * ("insert" in operations)
    assert len(after) >= len(word) - num_changes * ("delete" in operations)
    if operations == ("swap",):
        assert Counter(after) == Counter(word)
    if operations == ("substitute",):
        assert 0 < sum(one != other for one, other in zip(word, after, strict=True)) <= num_changes
        assert [char.isupper() for char in after] == [char.isupper() for char in word]


def test_words_become_tasks_or_reasons(tmp_path):
    texts = ["SALE", "ON", 'so"called', "twice", "twice", "!!!"]
    save(tmp_path / "images/a.png")
    line = {"image": "a.png", "words": [{"text": text, "box": [1, 2, 30, 20]} for text in texts]}
    source = write(tmp_path / "images/in.jsonl", line, {"image": "a.png", "words": []})
    table = data("text-edit", source, "--out", tmp_path / "out.jsonl")
    (task,) = read_task_list(tmp_path / "out.jsonl")
    assert task.task == "text_edit"
    assert task.metadata["before"] == "SALE" != task.metadata["after"]
    assert task.instruction == f'replace the text "SALE" with "{task.metadata["after"]}"'
    assert row(table, "dropped: word below --min-length") == 1
    assert row(table, "dropped: word with a quotation mark") == 1
    assert row(table, "dropped: word that occurs more than once in its image") == 2
    assert row(table, "dropped: word that cannot be changed") == 1
    assert row(table, "dropped: image without a usable word") == 1


def test_choices_follow_the_line_not_its_place(tmp_path):
    save(tmp_path / "a.png")
    lines = [{"image": "a.png", "words": [{"text": f"word{n}"}, {"text": f"other{n}"}]} for n in range(20)]
    outputs = []
    for name, order in (("there", lines), ("back", lines[::-1])):
        data("text-edit", write(tmp_path / f"{name}.jsonl", *order), "--out", tmp_path / f"{name}-out.jsonl")
        outputs.append((tmp_path / f"{name}-out.jsonl").read_text().splitlines())
    assert outputs[0] == outputs[1][::-1]
