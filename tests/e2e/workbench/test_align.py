"""`edit-r1 align` against the real service with the tiny judge, with the oracle as the annotator."""

import json

import pytest
from typer.testing import CliRunner

from edit_r1.command import app
from edit_r1.shared.jsonl import read_rows
from edit_r1.worlds.shapes.studies.edit_sets import corruption_set
from edit_r1.worlds.shapes.studies.preferences import write
from tests.support.serving import reward_service


@pytest.fixture(scope="module")
def judge_url(shapes_dir):
    with reward_service(shapes_dir / "judge") as url:
        yield url


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write([corruption_set(12, 4)], tmp_path_factory.mktemp("data"))


def align(*arguments):
    ended = CliRunner().invoke(app, ["align", *map(str, arguments)], env={"COLUMNS": "200"})
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.output


def test_a_report_of_every_figure_and_a_second_run_that_asks_nothing(judge_url, data, tmp_path):
    arguments = (data, "--url", judge_url, "--methods", "score_logit,score_sampling_cot", "--out", tmp_path)
    assert "pairwise agreement with humans" in align(*arguments)
    found = json.loads((tmp_path / "alignment.json").read_text())
    logit, sampled = found["methods"]["score_logit"], found["methods"]["score_sampling_cot"]
    assert logit["pairs"]["all"]["strict"]["estimate"] > 0.8
    assert sampled["pairs"]["all"]["tie_rate"] > logit["pairs"]["all"]["tie_rate"] == 0
    assert logit["tokens_an_edit"] == 1 < sampled["tokens_an_edit"]
    assert logit["scores"]["auc_good_bad"] > 0.8
    assert (
        sum(part["num_pairs"] for task, part in logit["pairs"].items() if task != "all")
        == logit["pairs"]["all"]["num_pairs"]
    )
    assert found["items"] == 12
    shares = [part["strict"]["estimate"] for task, part in logit["pairs"].items() if task != "all"]
    assert logit["mean_over_tasks"] == {"overall": pytest.approx(sum(shares) / len(shares))}
    page = (tmp_path / "alignment.html").read_text()
    assert page.count("<svg") == 3  # human ratings and two methods
    assert "score_logit against score_sampling_cot" in page
    before = (tmp_path / "scores.jsonl").read_bytes()
    align(*arguments)
    # A run interrupted while writing requests the lost scores again.
    assert (tmp_path / "scores.jsonl").read_bytes() == before
    (tmp_path / "scores.jsonl").write_bytes(before[: len(before) // 2])
    align(*arguments)
    assert json.loads((tmp_path / "alignment.json").read_text())["methods"]["score_logit"]["pairs"] == logit["pairs"]


def test_a_task_is_judged_by_its_text_however_it_is_spelled(judge_url, tmp_path):
    path = write([corruption_set(3, 4)], tmp_path / "data")

    def scores(out):
        align(path, "--url", judge_url, "--methods", "score_logit", "--out", out)
        return sorted(row["score"] for _, row in read_rows(out / "scores.jsonl") if "score" in row)

    as_the_service_does = scores(tmp_path / "usual")
    lines = [{**row, "task": row["task"].title()} for _, row in read_rows(path)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert scores(tmp_path / "titled") == as_the_service_does


def test_wrong_input_is_told_before_anything_is_asked(judge_url, data, tmp_path):
    for arguments, message in (
        ((tmp_path / "none.jsonl",), "none.jsonl does not exist"),
        ((data, "--format", "excel"), "--format excel: must be one of jsonl, editscore-bench"),
        ((data, "--methods", "logit"), "--methods logit: the service offers score_logit"),
    ):
        with pytest.raises(Exception, match=message):
            align(*arguments, "--url", judge_url, "--out", tmp_path)


def test_a_method_that_compares_is_asked_about_whole_items(judge_url, data, tmp_path):
    arguments = (data, "--url", judge_url, "--methods", "ranking", "--out", tmp_path)
    align(*arguments)
    before = (tmp_path / "scores.jsonl").read_bytes()
    scores = [row["score"] for _, row in read_rows(tmp_path / "scores.jsonl") if "score" in row]
    assert len(scores) == 12 * 4
    assert [sum(scores[start : start + 4]) for start in range(0, len(scores), 4)] == pytest.approx([2.0] * 12)
    align(*arguments)
    assert (tmp_path / "scores.jsonl").read_bytes() == before
    # If one score is lost, its whole item is asked again.
    (tmp_path / "scores.jsonl").write_bytes(b"".join(before.splitlines(keepends=True)[1:]))
    align(*arguments)
    assert (tmp_path / "scores.jsonl").read_bytes().count(b'"score"') == len(scores) - 1 + 4
