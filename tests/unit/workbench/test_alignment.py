"""Scores compared with human judgements: statistics, annotators, readers of published files."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edit_r1.shared.annotators import agreed
from edit_r1.shared.errors import DataError
from edit_r1.shared.preferences import Pair, PreferenceItem
from edit_r1.workbench.alignment.agreement import (
    bootstrap_mean,
    calibration_error,
    mcnemar,
    pair_agreement,
    score_agreement,
)
from edit_r1.workbench.alignment.readers import ranked_pairs, read_preferences
from tests.support.serving import png

PAIRS = st.lists(
    st.tuples(st.sampled_from([-0.4, -0.1, 0.0, 0.2, 0.7]), st.sampled_from([-1, 0, 1]), st.integers(0, 5)),
    min_size=1,
    max_size=40,
)
PICTURES = [png(seed) for seed in range(5)]


def arrays(pairs):
    differences, human, items = zip(*pairs, strict=True)
    return np.array(differences), np.array(human), np.array(items)


@given(PAIRS)
def test_the_three_tie_rules_are_one_apart_by_the_ties(pairs):
    found = pair_agreement(*arrays(pairs))
    decided = [(difference, human) for difference, human, _ in pairs if human]
    assert found.num_pairs == len(decided)
    assert found.num_ties == len(pairs) - len(decided)
    if decided:
        assert found.strict.estimate == pytest.approx(np.mean([np.sign(d) == h for d, h in decided]))
        assert found.half.estimate == pytest.approx(found.strict.estimate + found.tie_rate / 2)
        assert found.strict.low <= found.strict.estimate <= found.strict.high


@given(PAIRS)
def test_turning_every_pair_round_changes_nothing(pairs):
    differences, human, items = arrays(pairs)
    turned, straight = pair_agreement(-differences, -human, items), pair_agreement(differences, human, items)
    assert repr(turned) == repr(straight)  # nan is not equal to itself


def test_a_missing_score_is_no_wrong_answer():
    found = pair_agreement(np.array([0.5, np.nan]), np.array([1, 1]), np.array([0, 1]))
    assert (found.num_pairs, found.num_missing, found.strict.estimate) == (1, 1, 1.0)


def test_the_interval_of_a_share_is_as_wide_as_it_should_be():
    """For 194 pairs, as in the paper, the standard error sqrt(p (1 - p) / n) is 3.1 percentage points at 0.747."""
    right = np.array([1.0] * 145 + [0.0] * 49)
    found = bootstrap_mean(right, np.arange(194))
    assert found.estimate == pytest.approx(0.7474, abs=1e-4)
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(0.7474 * 0.2526 / 194), rel=0.1)


def test_pairs_of_one_item_are_resampled_together():
    right = np.repeat(np.arange(20) % 2, 10).astype(float)
    alone, together = bootstrap_mean(right, np.arange(200)), bootstrap_mean(right, np.repeat(np.arange(20), 10))
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_human_ties_are_told_by_a_margin_from_the_other_half():
    rng = np.random.default_rng(0)
    human = rng.integers(-1, 2, 600)
    differences = human * 0.5 + rng.uniform(-0.1, 0.1, 600)
    assert pair_agreement(differences, human, np.arange(600)).with_ties > 0.99
    noise = pair_agreement(rng.normal(size=600), human, np.arange(600))
    assert noise.with_ties < 0.42
    assert math.isnan(pair_agreement(differences, np.where(human == 0, 1, human), np.arange(600)).with_ties)


def test_mcnemar_looks_at_the_pairs_on_which_two_methods_differ():
    first, second = np.array([True] * 15 + [False] * 3 + [True] * 50), np.array([False] * 15 + [True] * 3 + [True] * 50)
    assert mcnemar(first, second) == pytest.approx(0.0075, abs=1e-4)  # 15 against 3
    assert mcnemar(first, first) == 1.0


def test_scores_that_are_peoples_own_agree_wholly():
    human = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    labels = ["Bad", "Bad", "Indistinguishable", "Good", "Good"]
    found = score_agreement(human, human, labels)
    assert (found.spearman, found.wasserstein, found.kolmogorov_smirnov) == pytest.approx((1.0, 0.0, 0.0))
    assert (found.auc_good_bad, found.calibration_error) == pytest.approx((1.0, 0.0))
    assert score_agreement(1 - human, human, labels).auc_good_bad == 0.0
    assert calibration_error(np.full(5, 0.8), human) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ("AAB", "A"),
        ("ABA", "A"),
        ("ABC", None),  # two more are asked
        ("ABCCC", "C"),
        ("ABCAB", None),  # two of five are not 60 %
        ("ABCAA", "A"),
        ("AB", None),
        ("A", "A"),
        ("", None),
    ],
)
def test_annotators(votes, label):
    assert agreed(votes) == label


@given(st.permutations("ABCD").map(lambda order: order[:3]), st.data())
def test_a_ranking_is_its_pairs(order, data):
    names = sorted(order)
    letters = {name: chr(ord("A") + i) for i, name in enumerate(names)}
    signs = data.draw(st.lists(st.sampled_from(">="), min_size=2, max_size=2))
    text = letters[order[0]] + "".join(sign + letters[name] for sign, name in zip(signs, order[1:], strict=True))
    rank = {"ABC".index(letters[name]): sum(sign == ">" for sign in signs[:i]) for i, name in enumerate(order)}
    assert ranked_pairs(text) == tuple(Pair(i, j, int(np.sign(rank[j] - rank[i]))) for i, j in [(0, 1), (0, 2), (1, 2)])


def test_rankings_of_the_published_files():
    assert ranked_pairs("A=B=Good") == (Pair(0, 1, 0),)
    assert ranked_pairs("B>A") == (Pair(0, 1, -1),)
    for wrong in ("", "A", "A>C", "A>A", "left"):
        with pytest.raises(ValueError, match="ranking"):
            ranked_pairs(wrong)


def stored(picture: bytes) -> dict[str, bytes | None]:
    """An image as stored in files on the Hub."""
    return {"bytes": picture, "path": None}


def test_the_published_parquet_is_read(tmp_path):
    rows = [
        {
            "id": f"{i}_0",
            "dataset": "2pair",
            "instruction": "make it red",
            "source_image": stored(PICTURES[0]),
            "candidate_1": stored(PICTURES[1]),
            "candidate_2": stored(PICTURES[2 + i]),
            "ranking": ranking,
        }
        for i, ranking in enumerate(["A>B", "B>A", "A=B"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "2pair.parquet")
    items = list(read_preferences(tmp_path, "editreward-bench"))
    assert [item.pairs[0].human for item in items] == [1, -1, 0]
    assert [item.edits for item in items] == [(PICTURES[1], PICTURES[2 + i]) for i in range(3)]
    assert len({item.id for item in items}) == 1  # one source and instruction
    with pytest.raises(DataError, match=r"2pair.parquet, row 1: field 'output_images' is missing.*It has id, dataset"):
        list(read_preferences(tmp_path, "editscore-bench"))


def test_the_published_arrow_is_read(tmp_path):
    row = {
        "key": ["a", "b"],
        "task_type": "subject-add",
        "dimension": "prompt_following",
        "instruction": "add a tree",
        "input_image": stored(PICTURES[0]),
        "output_images": [stored(PICTURES[1]), stored(PICTURES[2])],
    }
    table = pa.Table.from_pylist([row] * 11)
    with pa.OSFile(str(tmp_path / "data-00000.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "dataset_info.json").write_text('{"features": {"key": "string"}}')  # as `save_to_disk` leaves them
    items = list(read_preferences(tmp_path, "editscore-bench"))
    assert len(items) == 11
    assert items[0] == PreferenceItem(
        items[0].id,
        "add a tree",
        (PICTURES[0],),
        tuple(PICTURES[1:3]),
        (Pair(0, 1, 1),),
        task="subject-add",
        dimension="prompt_following",
    )


def test_json_forms_name_files_beside_them(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(PICTURES[i])
    bench = {
        "prompt": "p",
        "path_src": "0.png",
        "paths_generated": ["1.png", "2.png", "3.png"],
        "human_vote": {"ranking": "C>A=B"},
    }
    (tmp_path / "bench.json").write_text(json.dumps([bench]))
    (item,) = read_preferences(tmp_path / "bench.json", "editreward-bench-json")
    assert [pair.human for pair in item.pairs] == [0, -1, -1]
    assert item.edits == tuple(PICTURES[1:4])
    arena = {
        "instruct_prompt": "p",
        "source_image": "0.png",
        "left_output_image": "1.png",
        "right_output_image": "2.png",
    }
    votes = ("leftvote", "rightvote", "tievote", "bothbad_vote")
    (tmp_path / "arena.jsonl").write_text("".join(json.dumps({**arena, "vote_type": vote}) + "\n" for vote in votes))
    items = list(read_preferences(tmp_path / "arena.jsonl", "genai-bench"))
    assert [[pair.human for pair in item.pairs] for item in items] == [[1], [-1], [0], []]
    assert [item.discarded for item in items] == [0, 0, 0, 1]
    renamed = {"instruction": "p", "source_img": "0.png", "vote_type": "rightvote", **arena}
    (tmp_path / "data.jsonl").write_text(json.dumps(renamed) + "\n")
    (item,) = read_preferences(tmp_path / "data.jsonl", "editreward-data")
    assert (item.pairs[0].human, item.edits) == (-1, tuple(PICTURES[1:3]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line.jsonl:1: not JSON"),
        ('{"id": "1", "source": "0.png", "instruction": "p", "edits": ["0.png"], "pears": []}', "pears"),
        (
            '{"id": "1", "source": "0.png", "instruction": "p", "edits": ["0.png"], '
            '"pairs": [{"first": 0, "second": 1, "votes": "tie"}]}',
            "edit 1 does not exist; edits: 1",
        ),
        ('{"id": "1", "source": "gone.png", "instruction": "p", "edits": ["0.png"]}', "gone.png: No such file"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, message):
    (tmp_path / "0.png").write_bytes(PICTURES[0])
    (tmp_path / "line.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        list(read_preferences(tmp_path / "line.jsonl", "jsonl"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.json", "[[1]]", "rows.json, row 1: expected an object, got a list"),
        ("rows.json", "3", "rows.json: expected a list of rows, got a int"),
        ("rows.json", "{", "rows.json: Expecting property name"),
        ("rows.jsonl", "\n3", "rows.jsonl:2: expected an object, found a int"),
        ("rows.json", '[{"instruct_prompt": ["p"]}]', r"row 1: instruct_prompt: expected a str, got \['p'\]"),
        ("rows.parquet", "{}", "rows.parquet: Parquet"),
    ],
)
def test_published_files_of_another_shape_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_preferences(tmp_path, "genai-bench"))
