"""Untrusted files never execute code: checkpoints, configurations, and texts shown in a report."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from edit_r1.reward_service.engines.base import EngineOptions
from edit_r1.reward_service.engines.transformers import TransformersEngine
from edit_r1.shared.config import load_config
from edit_r1.shared.errors import ConfigError
from edit_r1.trainer.config import TrainConfig
from edit_r1.trainer.models.base import LoadOptions
from edit_r1.trainer.models.flux_kontext import FluxKontext
from edit_r1.trainer.records.records import ShownGroup, save_rollouts
from edit_r1.trainer.report import report
from tests.support.tiny_editor import build_tiny_editor


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Path of a directory that exists only after untrusted code was executed."""
    return tmp_path / "mark"


class Stranger:
    """Makes a directory when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.mkdir, (self.mark,)


def write_module(directory: Path, mark: Path) -> None:
    code = f"from pathlib import Path\nPath({str(mark)!r}).mkdir()\nclass Stranger: ...\n"
    (directory / "stranger.py").write_text(code)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def load_judge(directory: Path) -> None:
    """Load a judge like the service does: in a thread, where transformers cannot prompt the user."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(TransformersEngine.load, EngineOptions(model=str(directory))).result().close()


@pytest.fixture
def judge(tiny_judge, tmp_path) -> Path:
    """A copy of the tiny judge."""
    return Path(shutil.copytree(tiny_judge, tmp_path / "judge"))


@pytest.mark.parametrize(
    ("file", "names"),
    [("config.json", ["AutoConfig", "AutoModelForImageTextToText"]), ("config.json", ["AutoProcessor"])],
)
def test_code_in_a_judge_is_not_run(judge, mark, file, names):
    write_module(judge, mark)
    change(judge / file, model_type="stranger", auto_map=dict.fromkeys(names, "stranger.Stranger"))
    with pytest.raises((ValueError, ConfigError), match=r"code of its own|does not recognize this architecture"):
        load_judge(judge)
    assert not mark.exists()


def test_a_pickle_in_a_judge_is_not_run(judge, mark):
    (judge / "model.safetensors").unlink()
    weights = judge / "pytorch_model.bin"
    torch.save({"model.embed_tokens.weight": Stranger(mark)}, weights)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_judge(judge)
    assert not mark.exists()
    torch.load(weights, weights_only=False)
    assert mark.exists()  # it would have been


def test_code_in_an_editor_is_not_run(tmp_path, mark, monkeypatch):
    editor = build_tiny_editor(tmp_path / "editor")
    write_module(editor, mark)
    monkeypatch.syspath_prepend(editor)
    change(editor / "model_index.json", transformer=["stranger", "Stranger"])
    with pytest.raises(ConfigError, match="stranger"):
        FluxKontext.load(str(editor), LoadOptions(guidance=2.5, device=torch.device("cpu")))
    assert not mark.exists()


def test_yaml_builds_no_objects(tmp_path, mark):
    text = f"!!python/object/apply:os.mkdir [{str(mark)!r}]"
    path = tmp_path / "config.yaml"
    path.write_text(f"run_dir: {text}\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(TrainConfig, path)
    with pytest.raises(ConfigError, match="not a YAML value"):
        load_config(TrainConfig, None, [f"run_dir={text}"])
    assert not mark.exists()


def test_a_report_escapes_instructions(tmp_path):
    attack = "<script>alert(1)</script>"
    picture = Image.new("RGB", (4, 4))
    group = ShownGroup(
        index=0,
        instruction=attack,
        task=attack,
        source="s.webp",
        candidates=("c.webp",),
        rewards=(0.5,),
        dropped_because=None,
    )
    save_rollouts(tmp_path, 1, [group], {"s.webp": picture, "c.webp": picture})
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "eval/<script>": 0.5}\n')
    (tmp_path / "config.yaml").write_text(f"tracker_project: {attack}\n")
    page = report.render(report.RunRecord(tmp_path), 1.0)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 2  # instruction and configuration
