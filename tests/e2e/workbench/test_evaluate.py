"""`edit-r1 evaluate`: benchmarks in their published layouts, a tiny editor, a judge behind a real OpenAI-style API."""

import json

import pytest
from PIL import Image

from edit_r1.shared.errors import AccountError, ConfigError, DataError, EndpointError, EndpointUnavailable
from edit_r1.trainer.models import FAMILIES
from edit_r1.workbench.evaluation.benchmarks import GEDIT_TASKS, read_gedit
from edit_r1.workbench.evaluation.editors import find_subject
from edit_r1.workbench.evaluation.published import IMGEDIT_COLUMNS
from tests.support import serving
from tests.support.benchmark_files import (
    SETTINGS,
    SIZES,
    evaluate,
    gedit_rows,
    make_gedit,
    make_imgedit,
    make_pictures,
    results,
)
from tests.support.color_judge import ColorJudge
from tests.support.color_judge import serving as serving_rewards
from tests.support.forked import Forked
from tests.support.openai_judge import OpenAIJudge


def test_a_tiny_editor_on_imgedit(tiny, tmp_path, judge, asked):
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    command = ("imgedit", bench, *SETTINGS, "--model", tiny.folder / "editor", "--out", out, *asked)
    printed = evaluate(*command)
    assert "| Overall |" in printed
    assert "INCOMPLETE: the full benchmark has" in printed
    found = results(out)
    summary = found["summary"]
    means = [summary["strict"]["types"][name]["mean"] for name in IMGEDIT_COLUMNS]
    assert summary["overall_macro"] == pytest.approx(sum(means) / 9)
    assert summary["coverage"] == 1.0
    assert sorted(path.name for path in (out / "pictures").iterdir()) == [f"{number}.png" for number in range(9)]
    assert json.loads((out / "result.json").read_text()) == {
        item["key"]: item["answers"]["rating"] for item in found["items"]
    }
    assert json.loads((out / "typescore.json").read_text()).keys() == set(IMGEDIT_COLUMNS)
    assert json.loads((out / "average_score.json").read_text()) == {
        item["key"]: item["official"] for item in found["items"]
    }
    assert (out / "gallery.html").read_text().count("data:image/") == 18
    assert judge.bodies[0] == {"model": "red-judge", "temperature": 0, "max_tokens": 1400}
    assert [len(sizes) for sizes in judge.sizes] == [2] * 9

    pictures = {path: path.stat().st_mtime_ns for path in (out / "cache" / "pictures").rglob("*.png")}
    evaluate(*command)
    assert len(judge.texts) == 9
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures


def test_a_run_its_checkpoint_and_its_adapter_make_the_same_pictures(tiny, tmp_path):
    run_dir, bench = tmp_path / "run", make_imgedit(tmp_path / "bench")
    with serving_rewards(ColorJudge()) as url:
        tiny.train(url, run_dir, "epochs=1", "optimizer.learning_rate=0.05")

    def pictures(name, model, *options):
        out = tmp_path / name
        evaluate("imgedit", bench, "evaluation.steps=2", "--limit", 1, "--model", model, *options, "--out", out)
        return {path.name: path.read_bytes() for path in (out / "pictures").iterdir()}

    trained, before = pictures("run-out", run_dir), pictures("base", run_dir, "--base")
    assert trained.keys() == before.keys()
    assert all(trained[name] != before[name] for name in trained)
    assert pictures("step", run_dir / "checkpoints" / "step-1") == trained
    assert pictures("adapter", run_dir, "--adapter", run_dir / "lora") == trained
    plain_pipeline = (*SETTINGS[:3], "rollout.guidance=2.5", "--adapter", run_dir / "lora")
    assert pictures("pipeline", tiny.folder / "editor", *plain_pipeline) == trained
    assert pictures("other-seed", run_dir, "--seed", 1) != trained


def test_edits_sampled_in_different_ways_are_kept_apart(tiny, tmp_path, asked):
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    command = ("imgedit", bench, *SETTINGS, "--limit", 1, "--model", tiny.folder / "editor", "--out", out, *asked)

    def made(*options):
        evaluate(*command, *options)
        return results(out)["editor"]["settings"], (out / "pictures" / "0.png").read_bytes()

    plain, plain_edit = made()
    guided, guided_edit = made("evaluation.true_cfg=4")
    assert guided == plain | {"true_cfg": {"scale": 4.0, "negative_prompt": ""}}
    assert guided_edit != plain_edit
    assert "true CFG 4 with negative prompt ''" in (out / "results.md").read_text()
    published, _ = made("--sampling", "published", "evaluation.steps=2")
    assert published == plain | {"guidance": 3.5}
    assert made() == (plain, plain_edit)
    assert len(list((out / "cache" / "pictures").rglob("*.png"))) == 3 * 9


def test_published_samplings_are_known_for_some_families(tmp_path):
    def subject(family, *overrides, sampling="published"):
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": FAMILIES[family].pipeline}))
        return find_subject(
            str(tmp_path), adapter=None, base=False, weights="ema", step=None, sampling=sampling, overrides=overrides
        )

    for family in ("qwen_image_edit", "qwen_image_edit_plus"):
        settings = subject(family, "rollout.true_cfg=2", "rollout.negative_prompt=blurry").identity["settings"]
        assert (settings["steps"], settings["true_cfg"]) == (28, {"scale": 4.0, "negative_prompt": " "})
        own = subject(family, "evaluation.negative_prompt=blurry", "evaluation.steps=50").identity["settings"]
        assert (own["steps"], own["true_cfg"]) == (50, {"scale": 4.0, "negative_prompt": "blurry"})
    known = "only for flux_kontext, qwen_image_edit, qwen_image_edit_plus"
    with pytest.raises(ConfigError, match=f"published: not known for model.family = flux2_klein, {known}"):
        subject("flux2_klein")
    with pytest.raises(ConfigError, match=r"evaluation\.true_cfg = 4 must be null .*UniWorldStyle: it has no negative"):
        subject(
            "flux_kontext",
            "model.family=examples.uniworld_style:UniWorldStyle",
            "evaluation.true_cfg=4",
            sampling="configured",
        )


def test_two_shards_make_what_one_process_makes(tiny, tmp_path):
    bench = make_imgedit(tmp_path / "bench")
    command = ("imgedit", bench, *SETTINGS, "--model", tiny.folder / "editor", "--out")
    evaluate(*command, tmp_path / "one")
    evaluate(*command, tmp_path / "two", RANK="1", WORLD_SIZE="2")
    assert len(list((tmp_path / "two").rglob("*.png"))) == 4
    evaluate(*command, tmp_path / "two", RANK="0", WORLD_SIZE="2")
    for name in (f"{number}.png" for number in range(9)):
        assert (tmp_path / "one/pictures" / name).read_bytes() == (tmp_path / "two/pictures" / name).read_bytes()


def test_gedit_in_both_languages(tiny, tmp_path, judge, asked):
    bench, out = make_gedit(tmp_path / "bench"), tmp_path / "out"
    evaluate("gedit", bench, *SETTINGS, "--language", "all", "--model", tiny.folder / "editor", "--out", out, *asked)
    sets = results(out)["summary"]["sets"]
    assert list(sets) == ["en/full", "en/intersection", "cn/full", "cn/intersection"]
    assert sets["en/full"]["tasks"].keys() == set(GEDIT_TASKS)
    assert sets["cn/intersection"]["tasks"].keys() == {name for i, name in enumerate(GEDIT_TASKS) if i % 4}
    for numbers in sets.values():
        overall = [task["O"] for task in numbers["tasks"].values()]
        assert numbers["G_O"] == pytest.approx(sum(overall) / len(overall))
    # Both images for the first question, only the edit for the second; at the original's size.
    assert sorted(set(map(tuple, judge.sizes))) == sorted(
        [(size,) for size in SIZES] + [(size, size) for size in SIZES]
    )
    shown = out / "pictures/fullset/subject-add"
    assert sorted(path.name[32:] for path in (shown / "cn").iterdir()) == [".png", "_SRCIMG.png"]
    assert any("变红" in text for text in judge.texts)


@pytest.mark.parametrize("layout", ["fullset/{}", "{}"])
def test_gedit_of_pictures_that_exist(tmp_path, asked, layout):
    bench = make_gedit(tmp_path / "bench")
    keys = [f"{row['task_type']}/en/{row['key']}" for row in gedit_rows() if row["instruction_language"] == "en"]
    pictures = make_pictures(tmp_path / "edited", map(layout.format, keys), [255] * 11)
    evaluate("gedit", bench, "--pictures", pictures, "--out", tmp_path / "out", *asked)
    full = results(tmp_path / "out")["summary"]["sets"]["en/full"]
    assert (full["G_SC"], full["G_PQ"], full["coverage"]) == (9.0, 9.0, 1.0)


def test_parquet_and_arrow_files_hold_what_the_export_holds(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    exported = read_gedit(make_gedit(tmp_path / "jsonl"), ("en", "cn"), tmp_path / "store")
    table = pa.Table.from_pylist([{**row, "input_image_raw": row["input_image"]} for row in gedit_rows()])
    (tmp_path / "parquet/data").mkdir(parents=True)
    parquet.write_table(table, tmp_path / "parquet/data/train-00000-of-00001.parquet")
    for name, writer in (("stream", pa.ipc.new_stream), ("file", pa.ipc.new_file)):
        (tmp_path / name).mkdir()
        with writer(tmp_path / name / "data-00000-of-00001.arrow", table.schema) as file:
            file.write_table(table)
    for name in ("parquet", "stream", "file"):
        found = read_gedit(tmp_path / name, ("en", "cn"), tmp_path / "store")
        pairs = list(zip(found.items, exported.items, strict=True))
        assert all((a.key, a.instruction, a.intersection) == (b.key, b.instruction, b.intersection) for a, b in pairs)
        assert all(a.source.read_bytes() == b.source.read_bytes() for a, b in pairs)


def test_a_failed_judgement_is_missing_and_counted(tmp_path, judge, asked):
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    edits = json.loads((bench / "basic_edit.json").read_text())
    for key, mood in enumerate(("mumble", "filter", "decline", "crash", "page")):
        edits[str(key)].update(prompt=f"please {mood}", edit_type="add")
    edits["5"]["edit_type"] = "add"
    (bench / "basic_edit.json").write_text(json.dumps(edits))
    pictures = make_pictures(tmp_path / "edited", range(8), [255] * 8, suffix="jpg")
    command = ("imgedit", bench, "--pictures", pictures, "--out", out, *asked)
    evaluate(*command)
    summary = results(out)["summary"]
    assert summary["missing"] == {"unparsable": 1, "refused": 2, "failed": 2, "no picture": 1}
    assert summary["strict"]["types"]["add"] == {"mean": pytest.approx(14 / 3), "num_items": 6, "num_scored": 1}
    assert summary["coverage"] == pytest.approx(3 / 9)
    assert summary["overall_macro"] is None  # `action` has no score
    official = {name: json.loads((out / f"{name}.json").read_text()) for name in ("average_score", "typescore")}
    assert official["average_score"] == {"5": 4.67, "6": 4.67, "7": 4.67}
    assert official["typescore"] == {"add": 4.67, "style": 4.67, "compose": 4.67}
    # Answers and refusals of the judge are kept; questions on which it failed are asked again.
    judge.texts.clear()
    evaluate(*command)
    assert {text.split("please ")[1].split()[0] for text in judge.texts} == {"crash", "page"}


def test_a_judge_that_goes_away_ends_it_and_the_next_run_asks_the_rest(tmp_path, judge, asked):
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    command = ("imgedit", bench, "--pictures", make_pictures(tmp_path / "edited", range(9), range(0, 180, 20)))
    judge.busy_after = 4
    with pytest.raises(EndpointUnavailable, match="too busy"):
        evaluate(*command, "--out", out, *asked, "--judge-in-flight", 2)
    assert not (out / "results.json").exists()
    judge.busy_after = None
    evaluate(*command, "--out", out, *asked)
    assert len(judge.texts) == len(set(judge.texts)) == 9
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "edited/3.png")
    evaluate(*command, "--out", out, *asked)
    assert len(judge.texts) == 10


def test_an_account_without_credit_ends_it_and_is_no_verdict(tmp_path, judge, asked):
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    pictures = make_pictures(tmp_path / "edited", range(9), range(0, 180, 20))
    command = ("imgedit", bench, "--pictures", pictures, "--out", out, *asked, "--judge-in-flight", 1)
    judge.broke_after = 4
    with pytest.raises(AccountError, match="answered 402: Insufficient Balance"):
        evaluate(*command)
    assert not (out / "results.json").exists()
    judge.broke_after = None
    evaluate(*command)
    assert len(judge.texts) == len(set(judge.texts)) == 9
    assert results(out)["summary"]["coverage"] == 1.0
    assert results(out)["usage"] == {"prompt_tokens": 9 * 200, "completion_tokens": 90}


def test_a_cut_answer_is_told_as_cut_and_asked_again_with_a_higher_limit(tmp_path, judge, asked):
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    edits = json.loads((bench / "basic_edit.json").read_text())
    edits["3"]["prompt"] += " overflow"
    (bench / "basic_edit.json").write_text(json.dumps(edits))
    pictures = make_pictures(tmp_path / "edited", range(9), range(0, 180, 20))
    command = ("imgedit", bench, "--pictures", pictures, "--out", out, *asked, "--price-in", 2, "--price-out", 10)
    evaluate(*command)
    missing = [item["missing"] for item in results(out)["items"] if item["missing"]]
    assert missing == ["cut: the answer reached the limit of 1400 tokens; raise --judge-max-tokens"]
    evaluate(*command)
    assert len(judge.texts) == 9
    evaluate(*command, "--judge-max-tokens", 2000)
    assert len(judge.texts) == 18


def test_a_judge_that_has_moved_is_not_asked_again(tmp_path, judge, asked):
    """Machines and ports change between runs: a judge is identified by its name, as docs/evaluation.md says."""
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    pictures = make_pictures(tmp_path / "edited", range(9), range(0, 180, 20))
    command = ("imgedit", bench, "--pictures", pictures, "--out", out, *asked)
    evaluate(*command)
    with serving.serving(judge.app) as elsewhere:
        evaluate(*command, "--judge-url", elsewhere)
    assert len(judge.texts) == 9
    assert results(out)["judge"]["url"] == elsewhere


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    pictures = make_pictures(tmp_path / "edited", range(9), range(0, 180, 20))
    judge = OpenAIJudge(key="secret", seconds=0.2)
    with serving.serving(judge.app) as url:
        command = ["evaluate", "imgedit", bench, "--pictures", pictures, "--out", out, "--judge-in-flight", 1]
        command += ["--judge-url", url, "--judge-model", "red-judge", "--judge-key-variable", "THE_KEY"]
        running = Forked(*command, THE_KEY="secret")
        answers = out / "cache/answers.jsonl"
        running.wait_for(lambda: answers.exists() and answers.read_bytes().count(b"\n") >= 3)
        running.kill()
        kept = len(answers.read_bytes().splitlines())
        assert 3 <= kept < 9
        with answers.open("ab") as file:
            file.write(b'{"key": "cut o')  # as after a power failure
        judge.texts.clear()
        evaluate(*command[1:], THE_KEY="secret")
    assert len(judge.texts) == 9 - kept
    assert results(out)["summary"]["coverage"] == 1.0


def test_two_editors_are_compared_pair_by_pair(tmp_path, asked):
    bench = make_imgedit(tmp_path / "bench")
    for name, red in (("a", [120] * 9), ("b", [255] * 6 + [120, 120, 0])):
        pictures = make_pictures(tmp_path / f"{name}-pictures", range(9), red)
        evaluate("imgedit", bench, "--pictures", pictures, "--out", tmp_path / name, *asked)
    printed = evaluate("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "compared")
    assert "B wins 6 of 7 decided pairs" in printed
    document = json.loads((tmp_path / "compared/comparison.json").read_text())
    whole = document["rows"][0]
    assert (whole["num_pairs"], whole["num_wins"], whole["num_losses"]) == (9, 6, 1)
    assert whole["macro_difference"]["estimate"] == pytest.approx(whole["second"] - whole["first"])
    assert whole["sign_test_p"] == pytest.approx(2 * 8 / 2**7)
    assert (tmp_path / "compared/comparison.html").read_text().count("data:image/") == 3 * 7
    same = json.loads((tmp_path / "a/results.json").read_text())
    same["judge"]["model"] = "another"
    (tmp_path / "c").mkdir()
    (tmp_path / "c/results.json").write_text(json.dumps(same))
    with pytest.raises(DataError, match="different judge: red-judge and another"):
        evaluate("compare", tmp_path / "a", tmp_path / "c", "--out", tmp_path / "compared")
    del same["items"][3]["value"]
    (tmp_path / "c/results.json").write_text(json.dumps(same))
    with pytest.raises(DataError, match=r"c contains no results of edit-r1 evaluate: items\.3\.value: Field required"):
        evaluate("compare", tmp_path / "a", tmp_path / "c", "--out", tmp_path / "compared")


def test_the_authors_prompts_can_be_used(tmp_path, judge, asked):
    bench = make_imgedit(tmp_path / "bench")
    texts = {name: f"{name}? <edit_prompt>\nPrompt Compliance: <number from 1 to 5>" for name in IMGEDIT_COLUMNS}
    (tmp_path / "prompts.json").write_text(json.dumps(texts))
    pictures = make_pictures(tmp_path / "edited", range(9), [255] * 9)
    options = ("--pictures", pictures, "--out", tmp_path / "out", "--prompts", tmp_path / "prompts.json", *asked)
    with pytest.raises(EndpointError, match="none of 9 edits got a verdict"):
        evaluate("imgedit", bench, *options)  # they ask for one criterion, which does not make an ImgEdit answer
    assert sorted(text.split("\n")[0] for text in judge.texts)[0] == "action? make it red action"
