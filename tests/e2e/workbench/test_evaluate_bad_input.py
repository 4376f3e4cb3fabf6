"""`edit-r1 evaluate` on invalid input: each error is reported before a model is loaded."""

import pytest

from edit_r1.shared.errors import CheckpointError, ConfigError, DataError
from tests.support import serving
from tests.support.benchmark_files import evaluate, make_gedit, make_imgedit, make_pictures, plain
from tests.support.openai_judge import OpenAIJudge


def test_a_wrong_key_is_told_at_once(tmp_path):
    bench = make_imgedit(tmp_path / "bench")
    pictures = make_pictures(tmp_path / "edited", range(9), [255] * 9)
    judge = OpenAIJudge(key="secret")
    with serving.serving(judge.app) as url:
        command = ("--judge-url", f"{url}/v1", "--judge-model", "red-judge", "--judge-key-variable", "THE_KEY")
        with pytest.raises(ConfigError, match="rejects the key: 401: wrong key"):
            evaluate("imgedit", bench, "--pictures", pictures, "--out", tmp_path / "out", *command, THE_KEY="guess")
    assert judge.texts == []


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("imgedit", "{empty}", "--model", "{editor}"), (DataError, "does not contain ImgEdit-Bench")),
        (("gedit", "{empty}", "--model", "{editor}"), (DataError, "does not contain GEdit-Bench")),
        (("gedit", "{gedit}", "--model", "{editor}", "--language", "zh"), (ConfigError, "one of en, cn, all")),
        (("imgedit", "{bench}"), (ConfigError, "give either --model")),
        (("imgedit", "{bench}", "--model", "{empty}"), (ConfigError, "is not a run directory")),
        (
            ("imgedit", "{bench}", "--model", "{editor}", "--adapter", "{empty}"),
            (CheckpointError, "no trained weights"),
        ),
        (("imgedit", "{bench}", "model.widht=8", "--model", "{editor}"), (ConfigError, "did you mean 'width'")),
        (("imgedit", "{bench}", "--pictures", "{empty}"), (ConfigError, "--pictures needs a judge")),
        (("imgedit", "{bench}", "--model", "{editor}", "--judge-url", "x"), (ConfigError, "must be given together")),
        (("imgedit", "{bench}", "--model", "{editor}", "@gone"), (ConfigError, "no chat endpoint at http://127.0.0.1")),
        (("imgedit", "{bench}", "--model", "{editor}", "@other"), (ConfigError, "serves red-judge, not 'gpt'")),
        (("imgedit", "{bench}", "--model", "{editor}", "@key"), (ConfigError, "the environment variable is not set")),
        (("imgedit", "{bench}", "--pictures", "{empty}", "@judge"), (DataError, "has no images of this benchmark")),
        (("compare", "{empty}", "{empty}"), (DataError, "contains no results")),
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
        evaluate(*arguments, "--out", tmp_path / "out")
    assert not list(tmp_path.glob("out/**/*.png"))


def test_a_damaged_picture_is_named(tmp_path, asked):
    bench, pictures = make_imgedit(tmp_path / "bench"), make_pictures(tmp_path / "edited", range(9), [255] * 9)
    (pictures / "4.png").write_bytes(plain("red")[:40])
    with pytest.raises(DataError, match=r"edited/4.png: not a readable image"):
        evaluate("imgedit", bench, "--pictures", pictures, "--out", tmp_path / "out", *asked)


def test_a_missing_source_and_a_wrong_layout_are_named(tmp_path):
    bench = make_imgedit(tmp_path / "bench")
    (bench / "singleturn/animal/000000003.png").unlink()
    command = ("imgedit", bench, "--model", "x", "--out", tmp_path / "out")
    with pytest.raises(DataError, match=r"1 source images .* do not exist:\n  .*singleturn/animal/000000003.png"):
        evaluate(*command)
    (bench / "basic_edit.json").write_text('{"0": {"id": "a.png", "prompt": "x", "edit_type": "hybrid"}}')
    with pytest.raises(DataError, match=r"is not an ImgEdit list: 0.edit_type: Input should be 'add'"):
        evaluate(*command)
    bench = make_gedit(tmp_path / "gedit")
    lines = (bench / "gedit.jsonl").read_text().splitlines()
    (bench / "gedit.jsonl").write_text("\n".join([*lines[:3], lines[3].replace('"key"', '"kay"')]))
    with pytest.raises(DataError, match=r"gedit\.jsonl:4: key: Field required"):
        evaluate("gedit", bench, "--model", "x", "--out", tmp_path / "out")
