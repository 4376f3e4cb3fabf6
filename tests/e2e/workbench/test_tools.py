"""`edit-r1 report`, `export` and `edit` on a finished run."""

import numpy as np
import pytest
import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from edit_r1.command import app
from edit_r1.shared.errors import CheckpointError, ConfigError, DataError
from edit_r1.workbench.editing.editor import Editor, run_config
from edit_r1.worlds.shapes.training.editor_model import MAX_TEXT_TOKENS
from tests.support.color_judge import ColorJudge, redness, serving
from tests.support.tiny_run import train_on_two

INSTRUCTION = "make it red"
SAMPLE = "worlds/shapes/samples/00/source.png"
EDIT = ("edit", "{run}", "--image", SAMPLE, "--instruction", INSTRUCTION, "--out", "{empty}/x.png")


@pytest.fixture(scope="module")
def run_dir(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    with serving(ColorJudge()) as url:
        tiny.train(url, path, "optimizer.learning_rate=0.05")
    return path


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
    return path


def call(*arguments):
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert ended.exit_code == 0, ended.output
    return ended.output.strip()


def edit(run_dir, source, out, *options):
    call("edit", run_dir, "--image", source, "--instruction", INSTRUCTION, "--out", out, *options)
    return np.asarray(Image.open(out), int)


def in_plain_diffusers(pipeline, source, **changes):
    pipeline.set_progress_bar_config(disable=True)
    arguments = {
        "image": Image.open(source),
        "prompt": INSTRUCTION,
        "height": 32,
        "width": 32,
        "max_area": 32 * 32,
        "_auto_resize": False,
        "num_inference_steps": 3,
        "guidance_scale": 2.5,
        "max_sequence_length": MAX_TEXT_TOKENS,
        "generator": torch.Generator().manual_seed(0),
    }
    return np.asarray(pipeline(**arguments | changes).images[0], int)


def test_an_edit_is_that_of_plain_diffusers_with_the_exported_adapter(tiny, run_dir, source, tmp_path):
    trained = edit(run_dir, source, tmp_path / "trained.png")
    before = edit(run_dir, source, tmp_path / "before.png", "--base")
    assert np.abs(trained - before).max() > 5
    call("export", run_dir, "--out", tmp_path / "lora")
    pipeline = FluxKontextPipeline.from_pretrained(tiny.folder / "editor")
    assert np.abs(in_plain_diffusers(pipeline, source) - before).max() <= 1
    pipeline.load_lora_weights(tmp_path / "lora")
    assert np.abs(in_plain_diffusers(pipeline, source) - trained).max() <= 1


def test_an_edit_is_sampled_as_asked(tiny, run_dir, source, tmp_path):
    pipeline = FluxKontextPipeline.from_pretrained(tiny.folder / "editor")
    out, plain = tmp_path / "edit.png", edit(run_dir, source, tmp_path / "plain.png", "--base")
    against = {"true_cfg_scale": 4.0, "negative_prompt": "make it blue"}
    published = {"num_inference_steps": 28, "guidance_scale": 3.5}
    for options, changes in (
        ("--steps 5 --guidance 3", {"num_inference_steps": 5, "guidance_scale": 3.0}),
        ("--true-cfg 4", {**against, "negative_prompt": ""}),
        ("--true-cfg 4 --negative-prompt", against),
        ("--sampling published", published),
        ("--sampling published --steps 4", {**published, "num_inference_steps": 4}),
    ):
        prompt = [against["negative_prompt"]] if options.endswith("prompt") else []
        edited = edit(run_dir, source, out, "--base", *options.split(), *prompt)
        assert np.abs(in_plain_diffusers(pipeline, source, **changes) - edited).max() <= 1
        assert np.abs(edited - plain).max() > 5
    assert np.array_equal(edit(run_dir, source, out, "--base", "--true-cfg", 1), plain)


def test_the_whole_image_is_edited_in_its_shape_by_a_run_that_crops(run_dir, monkeypatch):
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, :16], wide[:, 48:] = (255, 0, 0), (0, 0, 255)  # lost if the centre were cut out
    sources = [Image.fromarray(wide), Image.fromarray(wide[:, 16:48])]
    editor = Editor(run_config(run_dir), None)
    seen: list[Image.Image] = []
    encode = editor.family.encode

    def watched(texts, images):
        seen.extend(images[0])
        return encode(texts, images)

    monkeypatch.setattr(editor.family, "encode", watched)
    assert [editor.edit([image], INSTRUCTION).size for image in sources] == [(48, 24), (32, 32)]
    first = np.asarray(seen[0])
    assert (first[12, 0] == (255, 0, 0)).all()
    assert (first[12, -1] == (0, 0, 255)).all()


def test_a_merged_export_needs_no_adapter(run_dir, source, tmp_path):
    call("export", run_dir, "--out", tmp_path / "merged", "--merged")
    pipeline = FluxKontextPipeline.from_pretrained(tmp_path / "merged")
    assert np.abs(in_plain_diffusers(pipeline, source) - edit(run_dir, source, tmp_path / "a.png")).max() <= 1


def test_the_best_of_several_is_the_one_the_judge_likes(run_dir, source, tmp_path):
    alone = [edit(run_dir, source, tmp_path / f"{seed}.png", "--seed", seed) for seed in range(3)]
    with serving(ColorJudge(failing=frozenset({1}))) as url:
        best = edit(run_dir, source, tmp_path / "best.png", "--best-of", 3, "--url", url)
        command = f"edit {run_dir} --image {source} --out {tmp_path}/b.png --best-of 3 --url {url}".split()
        told = call(*command, "--instruction", INSTRUCTION)
        with pytest.raises(ConfigError, match="--method nonsense: the service offers score_logit"):
            edit(run_dir, source, tmp_path / "x.png", "--best-of", 2, "--url", url, "--method", "nonsense")
    scored = [redness(alone[i].astype(float)) for i in (0, 2)]  # the second gets no score, and is not chosen
    assert np.array_equal(best, alone[(0, 2)[int(np.argmax(scored))]])
    assert "seed 1: no score" in told.splitlines()[2]


def test_a_fully_tuned_sharded_run_has_the_same_tools(tiny, source, tmp_path):
    run_dir = tmp_path / "run"
    settings = ("epochs=1", "tuning=full", "optimizer.learning_rate=0.003", "model.sharding=fsdp")
    with serving(ColorJudge()) as url:
        status, output = train_on_two(tiny.arguments(url, run_dir, *settings))
    assert status == 0, output
    trained = edit(run_dir, source, tmp_path / "trained.png")
    assert np.abs(trained - edit(run_dir, source, tmp_path / "before.png", "--base")).max() > 5
    call("export", run_dir, "--out", tmp_path / "merged", "--merged")
    whole = FluxKontextPipeline.from_pretrained(tmp_path / "merged")
    assert np.abs(in_plain_diffusers(whole, source) - trained).max() <= 1
    call("export", run_dir, "--out", tmp_path / "transformer")
    transformer = FluxTransformer2DModel.from_pretrained(tmp_path / "transformer")
    parts = FluxKontextPipeline.from_pretrained(tiny.folder / "editor", transformer=transformer)
    assert np.abs(in_plain_diffusers(parts, source) - trained).max() <= 1


def test_an_export_is_what_the_run_left_and_any_checkpoint_can_be_had(run_dir, tmp_path):
    name = "pytorch_lora_weights.safetensors"
    call("export", run_dir, "--out", tmp_path / "newest")
    left, newest = load_file(run_dir / "lora" / name), load_file(tmp_path / "newest" / name)
    assert left.keys() == newest.keys()
    assert all(torch.equal(left[key], newest[key]) for key in left)
    for options in (("--step", 1), ("--weights", "policy")):
        call("export", run_dir, "--out", tmp_path / "other", *options)
        other = load_file(tmp_path / "other" / name)
        assert any(not torch.equal(left[key], other[key]) for key in left)


def test_a_report_is_written_anew(run_dir):
    (run_dir / "report.html").unlink()
    assert call("report", run_dir) == str(run_dir / "report.html")
    assert "make it red" in (run_dir / "report.html").read_text()


@pytest.mark.parametrize("arguments", [("doctor", "x.yaml", "--gpus", "0"), ("edit", "run", "--steps", "0")])
def test_a_number_that_means_nothing_is_refused(arguments):
    ended = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert ended.exit_code == 2
    assert f"Invalid value for '{arguments[-2]}'" in ended.output


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("report", "{empty}"), CheckpointError, "contains no run"),
        (("export", "{empty}", "--out", "{empty}/x"), CheckpointError, "no complete checkpoint"),
        (("export", "{run}", "--out", "{empty}/x", "--step", "9"), CheckpointError, "step-9: manifest.json is missing"),
        (("export", "{run}", "--out", "{empty}/x", "--weights", "best"), ConfigError, "be one of ema, policy, old"),
        (
            (*EDIT, "--negative-prompt", "blurry"),
            ConfigError,
            r"evaluation\.negative_prompt = 'blurry' must be null without evaluation\.true_cfg",
        ),
        ((*EDIT, "--sampling", "default"), ConfigError, "--sampling default: must be one of configured, published"),
        (
            ("edit", "{run}", "--image", "{empty}/no.png", "--instruction", "x", "--out", "{empty}/x.png"),
            DataError,
            "image .*no.png: ",
        ),
    ],
)
def test_wrong_input_is_named(run_dir, tmp_path, arguments, kind, message):
    with pytest.raises(kind, match=message):
        call(*(argument.format(run=run_dir, empty=tmp_path) for argument in arguments))
