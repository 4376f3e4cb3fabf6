"""Golden edits: files become groups, and scores become shares of correctly ordered pairs."""

import re

import pytest

from edit_r1.reward_service.methods import METHODS
from edit_r1.shared.errors import ConfigError
from edit_r1.shared.golden.edits import PAIRS, low_mass, ordered_shares, read_calibration, required_share


def test_the_embedded_worlds_samples_show_every_quality_of_every_task(shapes_dir):
    golden = read_calibration(shapes_dir / "samples")
    assert {one.task for one in golden} == {"add", "adjust", "background", "extract", "remove", "replace"}
    assert all(len(one.group.candidates) == len(one.qualities) == 4 for one in golden)


def test_half_edits_may_be_missing_and_others_may_not(shapes_dir, tmp_path):
    for name in ("source.png", "done.png", "untouched.png", "instruction.txt"):
        (tmp_path / "00").mkdir(exist_ok=True)
        (tmp_path / "00" / name).write_bytes((shapes_dir / "samples" / "00" / name).read_bytes())
    with pytest.raises(ConfigError, match=r"calibration: .*wrong\.png"):
        read_calibration(tmp_path)
    (tmp_path / "00" / "wrong.png").write_bytes((tmp_path / "00" / "source.png").read_bytes())
    (golden,) = read_calibration(tmp_path)
    assert golden.qualities == ("done", "untouched", "wrong")
    assert golden.task == "default"


def test_shares_count_strict_wins_and_leave_out_what_has_no_score():
    falling = {"done": 0.9, "half": 0.5, "untouched": 0.2, "wrong": 0.1}
    tied = {"done": 0.5, "untouched": 0.5, "wrong": 0.1}
    assert ordered_shares([falling]) == dict.fromkeys(PAIRS, 1.0)
    assert ordered_shares([falling, tied])["done", "untouched"] == 0.5
    assert ordered_shares([tied, {}]).keys() == {("done", "untouched"), ("done", "wrong"), ("untouched", "wrong")}
    assert required_share([falling, tied]) == 0.75
    assert required_share([]) == 0.0


def test_the_remedies_for_a_low_score_mass_are_methods_that_exist():
    for name, method in METHODS.items():
        if method.reads_labels:
            message = low_mass(name, 0.1, 0.5)
            assert message.startswith(f"{name}: ")
            assert set(re.findall(r"\((\w+)\)", message)) <= METHODS.keys() - {name} | {"score_logit_cot"}
    assert "(yes_no_logit)" in low_mass("yes_no_logit_direct", 0.1, 0.5)
