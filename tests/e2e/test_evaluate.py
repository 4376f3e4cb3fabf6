"""`edit-r1 evaluate`: benchmarks in their published layouts, a tiny editor, a judge behind a real OpenAI-style API."""

import io
import json
import time

import pytest
from PIL import Image
from typer.testing import CliRunner

from edit_r1 import app
from shared.errors import CheckpointError, ConfigError, DataError, EndpointError, EndpointUnavailable
from tests.support import serving
from tests.support.color_judge import ColorJudge
from tests.support.color_judge import serving as serving_rewards
from tests.support.forked import Forked
from tests.support.openai_judge import OpenAIJudge
from trainer.evaluation.benchmarks import GEDIT_TASKS, read_gedit
from trainer.evaluation.published import IMGEDIT_COLUMNS
from worlds.shapes.editor_model import MAX_TEXT_TOKENS

SIZES = ((32, 32), (48, 32), (64, 40))
SETTINGS = (
    "model.width=32",
    "model.height=32",
    f"model.max_text_tokens={MAX_TEXT_TOKENS}",
    "evaluation.steps=2",
    "cpu_threads=1",
)


def call(*arguments, **environment):
    """Run the command; returns what it printed."""
    ended = CliRunner().invoke(
        app, ["evaluate", *map(str, arguments)], env={"RANK": None, "WORLD_SIZE": None, **environment}
    )
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def plain(color, size=(32, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def make_imgedit(directory, instruction="make it red"):
    """The layout of ImgEdit's Benchmark.tar: basic_edit.json beside singleturn/."""
    edits = {}
    for number, name in enumerate(IMGEDIT_COLUMNS):
        path = directory / "singleturn" / "animal" / f"{number:09d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plain((0, 20 * number, 90), SIZES[number % 3]))
        edits[str(number)] = {"id": f"animal/{path.name}", "prompt": f"{instruction} {name}", "edit_type": name}
    (directory / "basic_edit.json").write_text(json.dumps(edits))
    return directory


def gedit_rows(instruction="make it red"):
    """One row a task and language, with the fields of the data set."""
    return [
        {
            "task_type": task,
            "key": f"{number:032x}",
            "instruction": instruction if language == "en" else f"{instruction} 变红",
            "instruction_language": language,
            "input_image": {"bytes": plain((0, 15 * number, 60), SIZES[number % 3]), "path": f"{number}.png"},
            "Intersection_exist": number % 4 != 0,
        }
        for number, task in enumerate(GEDIT_TASKS)
        for language in ("en", "cn")
    ]


def make_gedit(directory, instruction="make it red"):
    """The export without pyarrow: gedit.jsonl and pictures."""
    directory.mkdir()
    lines = []
    for row in gedit_rows(instruction):
        image = row["input_image"]
        (directory / image["path"]).write_bytes(image["bytes"])
        lines.append(json.dumps({**row, "input_image": image["path"]}))
    (directory / "gedit.jsonl").write_text("\n".join(lines))
    return directory


def make_pictures(directory, keys, red, suffix="png"):
    """Edits that somebody made: picture i has red[i] of 255."""
    for key, level in zip(keys, red, strict=True):
        path = directory / f"{key}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (level, 0, 0)).save(path)
    return directory


def results(out):
    return json.loads((out / "results.json").read_text())


@pytest.fixture
def judge():
    return OpenAIJudge()


@pytest.fixture
def asked(judge):
    """Options that name a running judge."""
    with serving.serving(judge.app) as url:
        yield ("--judge-url", f"{url}/v1", "--judge-model", "red-judge", "--judge-retry-seconds", "1")


def test_a_tiny_editor_on_imgedit(tiny, tmp_path, judge, asked):
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    command = ("imgedit", bench, *SETTINGS, "--model", tiny.folder / "editor", "--out", out, *asked)
    printed = call(*command)
    assert "| Overall |" in printed
    assert "NOT THE WHOLE BENCHMARK" in printed
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
    call(*command)
    assert len(judge.texts) == 9
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures


def test_a_run_its_checkpoint_and_its_adapter_make_the_same_pictures(tiny, tmp_path):
    run_dir, bench = tmp_path / "run", make_imgedit(tmp_path / "bench")
    with serving_rewards(ColorJudge()) as url:
        tiny.train(url, run_dir, "epochs=1", "optimizer.learning_rate=0.05")

    def pictures(name, model, *options):
        out = tmp_path / name
        call("imgedit", bench, "evaluation.steps=2", "--limit", 1, "--model", model, *options, "--out", out)
        return {path.name: path.read_bytes() for path in (out / "pictures").iterdir()}

    trained, before = pictures("run-out", run_dir), pictures("base", run_dir, "--base")
    assert trained.keys() == before.keys()
    assert all(trained[name] != before[name] for name in trained)
    assert pictures("step", run_dir / "checkpoints" / "step-1") == trained
    assert pictures("adapter", run_dir, "--adapter", run_dir / "lora") == trained
    plain_pipeline = (*SETTINGS[:3], "rollout.guidance=2.5", "--adapter", run_dir / "lora")
    assert pictures("pipeline", tiny.folder / "editor", *plain_pipeline) == trained
    assert pictures("other-seed", run_dir, "--seed", 1) != trained


def test_two_shards_make_what_one_process_makes(tiny, tmp_path):
    bench = make_imgedit(tmp_path / "bench")
    command = ("imgedit", bench, *SETTINGS, "--model", tiny.folder / "editor", "--out")
    call(*command, tmp_path / "one")
    call(*command, tmp_path / "two", RANK="1", WORLD_SIZE="2")
    assert len(list((tmp_path / "two").rglob("*.png"))) == 4
    call(*command, tmp_path / "two", RANK="0", WORLD_SIZE="2")
    for name in (f"{number}.png" for number in range(9)):
        assert (tmp_path / "one/pictures" / name).read_bytes() == (tmp_path / "two/pictures" / name).read_bytes()


def test_gedit_in_both_languages(tiny, tmp_path, judge, asked):
    bench, out = make_gedit(tmp_path / "bench"), tmp_path / "out"
    call("gedit", bench, *SETTINGS, "--language", "all", "--model", tiny.folder / "editor", "--out", out, *asked)
    sets = results(out)["summary"]["sets"]
    assert list(sets) == ["en/full", "en/intersection", "cn/full", "cn/intersection"]
    assert sets["en/full"]["tasks"].keys() == set(GEDIT_TASKS)
    assert sets["cn/intersection"]["tasks"].keys() == {name for i, name in enumerate(GEDIT_TASKS) if i % 4}
    for numbers in sets.values():
        overall = [task["O"] for task in numbers["tasks"].values()]
        assert numbers["G_O"] == pytest.approx(sum(overall) / len(overall))
    # Both pictures for the first question, the edit alone for the second; at the original's size.
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
    call("gedit", bench, "--pictures", pictures, "--out", tmp_path / "out", *asked)
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
    call(*command)
    summary = results(out)["summary"]
    assert summary["missing"] == {"unparsable": 1, "refused": 2, "failed": 2, "no picture": 1}
    assert summary["strict"]["types"]["add"] == {"mean": pytest.approx(14 / 3), "num_items": 6, "num_scored": 1}
    assert summary["coverage"] == pytest.approx(3 / 9)
    assert summary["overall_macro"] is None  # of `action` there is no score
    official = {name: json.loads((out / f"{name}.json").read_text()) for name in ("average_score", "typescore")}
    assert official["average_score"] == {"5": 4.67, "6": 4.67, "7": 4.67}
    assert official["typescore"] == {"add": 4.67, "style": 4.67, "compose": 4.67}
    # What the judge has said or declined to say stands; where it broke down it is asked again.
    judge.texts.clear()
    call(*command)
    assert {text.split("please ")[1].split()[0] for text in judge.texts} == {"crash", "page"}


def test_a_judge_that_goes_away_ends_it_and_the_next_run_asks_the_rest(tmp_path, judge, asked):
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    command = ("imgedit", bench, "--pictures", make_pictures(tmp_path / "edited", range(9), range(0, 180, 20)))
    judge.busy_after = 4
    with pytest.raises(EndpointUnavailable, match="too busy"):
        call(*command, "--out", out, *asked, "--judge-in-flight", 2)
    assert not (out / "results.json").exists()
    judge.busy_after = None
    call(*command, "--out", out, *asked)
    assert len(judge.texts) == len(set(judge.texts)) == 9
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "edited/3.png")
    call(*command, "--out", out, *asked)
    assert len(judge.texts) == 10


def test_a_judge_that_has_moved_is_not_asked_again(tmp_path, judge, asked):
    """Jobs and ports change between two starts: a judge is known by its name, as docs/evaluation.md says."""
    bench, out = make_imgedit(tmp_path / "bench"), tmp_path / "out"
    pictures = make_pictures(tmp_path / "edited", range(9), range(0, 180, 20))
    command = ("imgedit", bench, "--pictures", pictures, "--out", out, *asked)
    call(*command)
    with serving.serving(judge.app) as elsewhere:
        call(*command, "--judge-url", elsewhere)
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
        deadline = time.monotonic() + 120
        while not answers.exists() or answers.read_bytes().count(b"\n") < 3:
            assert running.poll() is None, running.output
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.kill()
        kept = len(answers.read_bytes().splitlines())
        assert 3 <= kept < 9
        with answers.open("ab") as file:
            file.write(b'{"key": "cut o')  # as a power cut leaves it
        judge.texts.clear()
        call(*command[1:], THE_KEY="secret")
    assert len(judge.texts) == 9 - kept
    assert results(out)["summary"]["coverage"] == 1.0


def test_a_wrong_key_is_told_at_once(tmp_path):
    bench = make_imgedit(tmp_path / "bench")
    pictures = make_pictures(tmp_path / "edited", range(9), [255] * 9)
    judge = OpenAIJudge(key="secret")
    with serving.serving(judge.app) as url:
        command = ("--judge-url", f"{url}/v1", "--judge-model", "red-judge", "--judge-key-variable", "THE_KEY")
        with pytest.raises(ConfigError, match="refuses the key: 401: wrong key"):
            call("imgedit", bench, "--pictures", pictures, "--out", tmp_path / "out", *command, THE_KEY="guess")
    assert judge.texts == []


def test_two_editors_are_compared_pair_by_pair(tmp_path, asked):
    bench = make_imgedit(tmp_path / "bench")
    for name, red in (("a", [120] * 9), ("b", [255] * 6 + [120, 120, 0])):
        pictures = make_pictures(tmp_path / f"{name}-pictures", range(9), red)
        call("imgedit", bench, "--pictures", pictures, "--out", tmp_path / name, *asked)
    printed = call("compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "compared")
    assert "of 7 decided pairs B wins 6" in printed
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
    with pytest.raises(DataError, match="the judge of one is red-judge, of the other another"):
        call("compare", tmp_path / "a", tmp_path / "c", "--out", tmp_path / "compared")
    del same["items"][3]["value"]
    (tmp_path / "c/results.json").write_text(json.dumps(same))
    with pytest.raises(DataError, match=r"c holds no results of edit-r1 evaluate: items\.3\.value: Field required"):
        call("compare", tmp_path / "a", tmp_path / "c", "--out", tmp_path / "compared")


def test_the_authors_prompts_can_be_used(tmp_path, judge, asked):
    bench = make_imgedit(tmp_path / "bench")
    texts = {name: f"{name}? <edit_prompt>\nPrompt Compliance: <number from 1 to 5>" for name in IMGEDIT_COLUMNS}
    (tmp_path / "prompts.json").write_text(json.dumps(texts))
    pictures = make_pictures(tmp_path / "edited", range(9), [255] * 9)
    options = ("--pictures", pictures, "--out", tmp_path / "out", "--prompts", tmp_path / "prompts.json", *asked)
    with pytest.raises(EndpointError, match="not one of 9 edits got a verdict"):
        call("imgedit", bench, *options)  # they ask for one criterion: that is no ImgEdit answer
    assert sorted(text.split("\n")[0] for text in judge.texts)[0] == "action? make it red action"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("imgedit", "{empty}", "--model", "{editor}"), (DataError, "holds no ImgEdit-Bench")),
        (("gedit", "{empty}", "--model", "{editor}"), (DataError, "holds no GEdit-Bench")),
        (("gedit", "{gedit}", "--model", "{editor}", "--language", "zh"), (ConfigError, "one of en, cn, all")),
        (("imgedit", "{bench}"), (ConfigError, "give either --model")),
        (("imgedit", "{bench}", "--model", "{empty}"), (ConfigError, "neither a run")),
        (
            ("imgedit", "{bench}", "--model", "{editor}", "--adapter", "{empty}"),
            (CheckpointError, "no trained weights"),
        ),
        (("imgedit", "{bench}", "model.widht=8", "--model", "{editor}"), (ConfigError, "did you mean 'width'")),
        (("imgedit", "{bench}", "--pictures", "{empty}"), (ConfigError, "--pictures needs a judge")),
        (("imgedit", "{bench}", "--model", "{editor}", "--judge-url", "x"), (ConfigError, "go together")),
        (("imgedit", "{bench}", "--model", "{editor}", "@gone"), (ConfigError, "no chat endpoint at http://127.0.0.1")),
        (("imgedit", "{bench}", "--model", "{editor}", "@other"), (ConfigError, "serves red-judge, not 'gpt'")),
        (("imgedit", "{bench}", "--model", "{editor}", "@key"), (ConfigError, "no such environment variable")),
        (("imgedit", "{bench}", "--pictures", "{empty}", "@judge"), (DataError, "holds no picture of this benchmark")),
        (("compare", "{empty}", "{empty}"), (DataError, "holds no results")),
    ],
)
def test_bad_input_is_named_before_a_model_is_loaded(tiny, tmp_path, asked, options, fault):
    (tmp_path / "empty").mkdir()
    gone = f"http://127.0.0.1:{serving.free_port()}/v1"
    expanded = {
        "@judge": asked,
        "@gone": ("--judge-url", gone, "--judge-model", "gpt"),
        "@other": (*asked, "--judge-model", "gpt"),
        "@key": (*asked, "--judge-key-variable", "NO_SUCH_KEY"),
    }
    names = {
        "empty": tmp_path / "empty",
        "bench": make_imgedit(tmp_path / "bench"),
        "gedit": make_gedit(tmp_path / "gedit"),
        "editor": tiny.folder / "editor",
    }
    arguments = [part for option in options for part in expanded.get(option, (option.format(**names),))]
    kind, message = fault
    with pytest.raises(kind, match=message):
        call(*arguments, "--out", tmp_path / "out")
    assert not list(tmp_path.glob("out/**/*.png"))


def test_a_damaged_picture_is_named(tmp_path, asked):
    bench, pictures = make_imgedit(tmp_path / "bench"), make_pictures(tmp_path / "edited", range(9), [255] * 9)
    (pictures / "4.png").write_bytes(plain("red")[:40])
    with pytest.raises(DataError, match=r"edited/4.png: not a readable image"):
        call("imgedit", bench, "--pictures", pictures, "--out", tmp_path / "out", *asked)


def test_a_missing_source_and_a_wrong_layout_are_named(tmp_path):
    bench = make_imgedit(tmp_path / "bench")
    (bench / "singleturn/animal/000000003.png").unlink()
    command = ("imgedit", bench, "--model", "x", "--out", tmp_path / "out")
    with pytest.raises(DataError, match=r"1 source pictures .* do not exist:\n  .*singleturn/animal/000000003.png"):
        call(*command)
    (bench / "basic_edit.json").write_text('{"0": {"id": "a.png", "prompt": "x", "edit_type": "hybrid"}}')
    with pytest.raises(DataError, match=r"not ImgEdit's list of edits: 0.edit_type: Input should be 'add'"):
        call(*command)
    bench = make_gedit(tmp_path / "gedit")
    lines = (bench / "gedit.jsonl").read_text().splitlines()
    (bench / "gedit.jsonl").write_text("\n".join([*lines[:3], lines[3].replace('"key"', '"kay"')]))
    with pytest.raises(DataError, match=r"gedit\.jsonl:4: key: Field required"):
        call("gedit", bench, "--model", "x", "--out", tmp_path / "out")
