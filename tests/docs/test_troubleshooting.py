"""The messages in docs/troubleshooting.md are what the programs print: each error is provoked, by command or over HTTP.

The page's blocks have ids (`<!-- error: ID -->`); PROVOKE has a function for each, which returns the output. Addresses
may differ, and for the entries of NUMBERS_DIFFER also digits; everything else must be exactly as on the page.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import httpx
import pytest

from tests.support.color_judge import ColorJudge, serving
from tests.support.forked import Forked
from tests.support.pages import ROOT, blocks_of
from tests.support.provider import GPT, Habits, Provider
from tests.support.serving import png, reward_service
from tests.support.serving import serving as serving_app
from tests.support.tiny_judge import save_tiny_judge
from tests.support.typist import OVERRIDES

PAGE = ROOT / "docs/troubleshooting.md"
ERRORS = {block.note[1]: block for block in blocks_of(PAGE) if block.note and block.note[0] == "error"}

ELSEWHERE = {
    "engine-died": (
        "reward_service/cli.py",
        "the reward service stopped: ",
        "reward_service/service.py",
        "the engine died",
    )
}
"""Errors that cannot be provoked here within seconds -> source files that contain the words."""
NUMBERS_DIFFER = {"reward-lost", "self-test", "body-too-large"}
FAR_AWAY = ("run_dir=runs/new", "reward.url=http://judge.invalid:8000", "reward.wait_seconds=0")
PROVOKE: dict[str, Callable[[SimpleNamespace], str]] = {}


def provokes(function):
    PROVOKE[function.__name__.replace("_", "-")] = function
    return function


def alike(text, name):
    """The lines without parts that differ between machines."""
    text = re.sub(r"http://[\w.:-]*\d|'127\.0\.0\.1', \d+", "URL", text)
    text = re.sub(r"^\d{4}-\d\d-\d\dT\S+Z \[\w+ *\] ", "", text, flags=re.MULTILINE)  # a log's time and level
    text = re.sub(r"(the judge's answer) .*", r"\1 WORDS", text)
    text = re.sub(r"\d[\d,.]*", "N", text) if name in NUMBERS_DIFFER else text
    return [line.strip() for line in text.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory, judge_url, tiny_judge):
    """A working directory with a trained run, and two services: the embedded judge and a strict one."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "worlds").symlink_to(ROOT / "worlds")
    (folder / "edit.png").write_bytes(png(0))
    (folder / "models/kontext").mkdir(parents=True)
    limits = {"max_body_bytes": 100_000, "max_reasoning_tokens": 16}
    with reward_service(tiny_judge, api_key="right", model_name="other", **limits) as strict_url:
        here = SimpleNamespace(folder=folder, judge=tiny_judge, url=judge_url, strict_url=strict_url)
        here.first_run = train(here, "model.max_text_tokens=4", "monitor.window=1", "monitor.min_group_std=0.9")
        assert (folder / "runs/x/summary.json").is_file(), here.first_run
        yield here


def said(place, *words, num_processes=1, **variables):
    """Output of `edit-r1 ...` run in the working directory."""
    variables = {"REWARD_URL": place.url, "COLUMNS": "200", **variables}
    return Forked(*words, folder=place.folder, num_processes=num_processes, **variables).finish(60)[1]


def train(place, *overrides, **how):
    settings = (*OVERRIDES, f"reward.url={place.url}", "run_dir=runs/x", *overrides)
    return said(place, "train", "worlds/shapes/nft.yaml", *settings, **how)


def score(place, *options):
    samples = "worlds/shapes/samples/00"
    pictures = ("--source", f"{samples}/source.png", "--candidate", f"{samples}/done.png")
    return said(place, "score", *pictures, "--instruction", "make it red", *options)


@provokes
def python_version(place):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (place.folder / name).write_bytes((ROOT / name).read_bytes())
    old = place.folder / "python3.10"
    old.write_text(
        f"""#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 10); exec(sys.argv[1])' "$2"\n"""
    )
    old.chmod(0o755)
    return printed(["make", "setup", "PYTHON=./python3.10"], cwd=place.folder)


@provokes
def missing_extra(place):
    hide = (
        "import importlib.util as u; find = u.find_spec; gone = ('accelerate', 'diffusers', 'tensorboard');"
        "u.find_spec = lambda name, *more: None if name in gone else find(name, *more);"
        "import sys; sys.argv = ['edit-r1', 'train', 'worlds/shapes/nft.yaml'];"
        "from edit_r1 import command; command.main()"
    )
    return said(place, "python", "-c", hide)


@provokes
def no_docker(place):
    nobody = {"user": 65534} if os.geteuid() == 0 else {}
    script = (ROOT / "docker/with-engine").read_text()
    environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    command = ["bash", "-c", script, "docker/with-engine", "docker", "compose", "up"]
    return printed(command, cwd="/", env=environment, **nobody)


@provokes
def port_in_use(place):
    return said(place, "serve", "--port", place.url.rpartition(":")[2])


@provokes
def not_a_judge(place):
    save_tiny_judge(place.folder / "judges/mine", words=("Yes",), vocab_size=260)
    return said(place, "serve", "--model", "judges/mine", "--port", "0", "--engine", "transformers")


@provokes
def low_mass(place):
    return said(place, "serve", "--model", place.judge, "--port", "0", "--engine", "transformers")


@provokes
def self_test(place):
    options = ("--calibration", "worlds/shapes/samples", "--min-score-mass", "0")
    return said(place, "serve", "--model", place.judge, *options, "--port", "0", "--engine", "transformers")


@provokes
def account_refused(place):
    provider = Provider(GPT)
    provider.trouble = (402, {"error": {"message": "Insufficient Balance"}}, {})
    with serving_app(provider.app) as url:
        options = ("--openai-url", f"{url}/v1", "--openai-mode", "compatible", "--model", "some-model", "--port", "0")
        return said(place, "serve", "--engine", "openai", *options)


@provokes
def cut_answer(place):
    (place.folder / "sensible.jsonl").write_text('{"prompt": "make it red", "image": "edit.png"}\n')
    with serving_app(Provider(Habits(thinking_tokens=100)).app) as url:
        options = ("--out", "kept.jsonl", "--url", f"{url}/v1", "--model", "some-model")
        return said(place, "data", "rationality", "sensible.jsonl", *options)


@provokes
def not_ready(place):
    return train(place, "run_dir=runs/new", "reward.url=http://127.0.0.1:9", "reward.wait_seconds=1")


@provokes
def wrong_key(place):
    return score(place, "--url", place.strict_url, "--api-key", "wrong")


@provokes
def unusable_key(place):
    return score(place, "--api-key", "abc defg")


@provokes
def proxy(place):
    return train(place, *FAR_AWAY, http_proxy="http://127.0.0.1:9")


@provokes
def socks(place):
    return train(place, *FAR_AWAY, ALL_PROXY="socks5://127.0.0.1:1")


@provokes
def body_too_large(place):
    files = [("source", png(0)), ("candidates", os.urandom(200_000))]
    headers = {"Authorization": "Bearer right"}
    answer = httpx.post(f"{place.strict_url}/v1/score", data={"instruction": "x"}, files=files, headers=headers)
    return f"{answer.status_code} {answer.text}"


@provokes
def unknown_field(place):
    files = [("source", png(0)), ("candidates", png(1))]
    return httpx.post(f"{place.url}/v1/score", data={"prompt": "x"}, files=files).text


@provokes
def no_scores(place):
    settings = ("reward.method=unified_reward", f"reward.url={place.strict_url}")
    return train(place, "run_dir=runs/none", *settings, REWARD_API_KEY="right")


@provokes
def task_list(place):
    lines = ['{"prompt": "make it red", "image": "edit.png"}', '{"prompt": "make it blue", "image": "7.png"}']
    lines += ['{"instruction": "x", "image": "edit.png"}', '{"prompt": "make it red", "image": "edit.png"']
    (place.folder / "tasks.jsonl").write_text("\n".join(lines))
    return train(place, "run_dir=runs/new", "data.train=tasks.jsonl")


@provokes
def instruction_cut(place):
    return place.first_run


@provokes
def alarm(place):
    return place.first_run


@provokes
def unknown_key(place):
    return train(place, "run_dir=runs/new", "group_sise=8", "optimizer.lr=1e-4")


@provokes
def not_a_pipeline(place):
    return train(place, "run_dir=runs/new", "model.path=models/kontext")


@provokes
def not_whole_groups(place):
    held_out = "data.held_out=worlds/shapes/data/held_out.jsonl"
    return train(place, "run_dir=runs/new", "reward.method=ranking", held_out)


@provokes
def unknown_method(place):
    return train(place, "run_dir=runs/new", "reward.method=score_logits")


@provokes
def other_settings(place):
    return train(place, "lora.rank=16", "seed=1")


@provokes
def used_run_dir(place):
    return train(place, "resume=none")


@provokes
def damaged_checkpoint(place):
    whole = (place.folder / "runs/x/checkpoints/step-1").resolve()
    damaged = place.folder / "runs/damaged/checkpoints/step-1"
    subprocess.run(["cp", "-r", place.folder / "runs/x", place.folder / "runs/damaged"], check=True)
    weights = damaged / "policy/pytorch_lora_weights.safetensors"
    weights.write_bytes((whole / "policy/pytorch_lora_weights.safetensors").read_bytes()[:1000])
    # There is no model, so the run ends after looking for checkpoints.
    return train(place, "run_dir=runs/damaged", "model.path=models/kontext")


@provokes
def reward_lost(place):
    run_dir = place.folder / "runs/lost"
    with serving(ColorJudge()) as url:
        settings = (*OVERRIDES, f"reward.url={url}", "run_dir=runs/lost", "epochs=100", "reward.deadline_seconds=1")
        run = Forked("train", "worlds/shapes/nft.yaml", *settings, folder=place.folder, COLUMNS="200")
        run.wait_for((run_dir / "metrics.jsonl").exists)
    status, output = run.finish(60)
    assert status == 1
    return output


@provokes
def too_many_processes(place):
    return train(place, "run_dir=runs/new", "rollout.group_parts=1", num_processes=3)


@provokes
def one_process(place):
    # The variables left by `accelerate launch --num_processes 2` without --multi_gpu (see test_train_two_processes).
    traces = {"ACCELERATE_DYNAMO_BACKEND": "no", "MASTER_PORT": "29500"}
    return train(place, "run_dir=runs/new", "model.path=models/kontext", **traces)


@provokes
def does_not_fit(place):
    settings = ("model.width=256", "model.height=256", "group_size=2", "--gpus", "1", "--gpu-memory", "4")
    return said(place, "doctor", "worlds/shapes/nft.yaml", f"reward.url={place.url}", "run_dir=runs/new", *settings)


@provokes
def replicas_differ(place):
    return train(place, "run_dir=runs/new", f"reward.url=[{place.url}, {place.strict_url}]", REWARD_API_KEY="right")


def printed(command, **how):
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **how)
    assert ended.returncode != 0
    return ended.stdout


def test_every_error_is_provoked_and_nothing_else():
    assert set(ERRORS) == set(PROVOKE) | set(ELSEWHERE)
    assert len(ERRORS) >= 20


@pytest.mark.parametrize("name", [name for name in ERRORS if name in PROVOKE])
def test_the_page_has_what_is_printed(name, place):
    printed, expected = (alike(text, name) for text in (PROVOKE[name](place), ERRORS[name].text))
    assert [line for line in expected if line not in printed] == [], "\n".join(printed)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_cannot_be_provoked_here_stands_in_the_source(name):
    words = ELSEWHERE[name]
    for file, text in zip(words[::2], words[1::2], strict=True):
        assert text in (ROOT / file).read_text(), file
        assert text in ERRORS[name].text
