"""`edit-r1 train-judge` on the tiny judge, with files like a user's."""

import asyncio
import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from edit_r1.command import app
from edit_r1.reward_service.engines.factory import build_engine
from edit_r1.reward_service.judge_training.data import SeenEdit
from edit_r1.reward_service.judge_training.judge import Asked, LearningJudge
from edit_r1.reward_service.judge_training.train import Questions
from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.methods.templates import PRINCIPLES_DIRECTORY, TASKS_DIRECTORY, load_task_prompts
from edit_r1.reward_service.scoring.principles import WrittenPrinciples
from edit_r1.reward_service.settings import Settings
from edit_r1.reward_service.types import JudgeImage, Message, Question, SamplingSpec
from edit_r1.shared.errors import DataError
from edit_r1.worlds.shapes.studies.preferences import write
from edit_r1.worlds.shapes.studies.verifier import damaged_drawings, write_traces
from edit_r1.worlds.shapes.training.judge_data import SEEN, draw
from edit_r1.worlds.shapes.world.scenes import render, to_image
from tests.support.tiny_judge import save_tiny_judge


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(traces, pairs)."""
    folder, rng = tmp_path_factory.mktemp("learning"), np.random.default_rng(0)
    traces = write_traces([draw(rng, "train", SEEN) for _ in range(120)], folder / "traces", rng)
    return traces, write([damaged_drawings(16, 4, rng)], folder / "pairs")


PICTURE = JudgeImage(Image.new("RGB", (4, 4)), "a")


def train_judge(*arguments):
    ended = CliRunner().invoke(app, ["train-judge", *map(str, arguments)], env={"COLUMNS": "200"})
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.output


def test_what_is_learnt_is_what_the_engine_will_say(shapes_dir):
    """Log-probabilities of answers, whether a label or written, equal those of the service's engine."""
    rng = np.random.default_rng(1)
    examples = [draw(rng, "train", SEEN) for _ in range(3)]
    pictures = [
        (JudgeImage(to_image(render(one.task.source)), f"s{i}"), JudgeImage(to_image(one.edited), f"e{i}"))
        for i, one in enumerate(examples)
    ]
    judge = LearningJudge(str(shapes_dir / "judge"), rank=4)
    labels = SamplingSpec(labels=("Yes", "No"))
    written = SamplingSpec(max_tokens=12, labels=("Yes", "No"))
    settings = Settings(model=str(shapes_dir / "judge"), engine="transformers")
    engine = build_engine("transformers", settings.engine_options)
    for spec in (labels, written):
        questions = [
            Question((Message("user", (*both, text)),), spec)
            for both, text in zip(pictures, ("is it red", "is the circle gone now", "yes"), strict=True)
        ]

        async def answer(questions=questions):
            return await asyncio.gather(*(engine.generate(one.messages, one.spec) for one in questions))

        answers = asyncio.run(answer())
        yes = judge.chat.label_ids(("Yes",))[0]
        if spec is labels:
            logprobs, mask = judge.logprobs([Asked(question, (yes,)) for question in questions])
            found = torch.tensor([one.label_logprobs[0] for one in answers]).log_softmax(-1)[:, :1]
            torch.testing.assert_close(logprobs.detach(), found, atol=2e-5, rtol=0)
            assert mask.all()
            continue
        logprobs, mask = judge.logprobs([Asked(q, one.token_ids) for q, one in zip(questions, answers, strict=True)])
        assert mask.sum(1).tolist() == [len(one.token_ids) for one in answers]
        for row, one in zip(logprobs.detach(), answers, strict=True):
            # The engine chose the likeliest token everywhere, so each is at least as likely as any label there.
            likeliest = torch.tensor(one.label_logprobs).amax(1)
            assert (row[: len(likeliest)] >= likeliest - 2e-5).all()
    engine.close()


def test_chains_are_drawn_from_what_is_learnt_whatever_the_checkpoint_prefers(tmp_path):
    """A checkpoint's penalty would sample chains from a different distribution than the one being differentiated."""
    directory = save_tiny_judge(tmp_path)
    question = Question((Message("user", ("say something",)),), SamplingSpec(max_tokens=12))
    settings = directory / "generation_config.json"
    drawn = []
    for penalty in (1.0, 30.0):
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "repetition_penalty": penalty}))
        judge = LearningJudge(str(directory), rank=2)
        torch.manual_seed(0)
        drawn.append(judge.sample([question], 4, max_tokens=12))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("task", "requirement"), [("Text Edit", None), ("juggle", "keep it small"), (None, None)])
def test_a_judge_is_asked_in_training_as_the_service_asks_it(task, requirement):
    texts = load_task_prompts(TASKS_DIRECTORY)
    seen = SeenEdit("write HELLO", (PICTURE,), PICTURE, task, requirement)
    edit = Questions(METHODS["verifier"], WrittenPrinciples(PRINCIPLES_DIRECTORY), texts).edit(seen)
    key = {"Text Edit": "text_edit", None: "default"}.get(task, task)
    assert (edit.brief.task, edit.brief.requirement) == (key, requirement or texts[key])


def test_both_stages_learn_and_the_service_takes_the_adapter(files, shapes_dir, tmp_path):
    traces, pairs = files
    stages = ("--traces", traces, "--steps", 40, "--batch", 8, "--learning-rate", 2e-3, "--pairs", pairs)
    output = train_judge(*stages, "--preference-steps", 20, "--preference-batch", 2, "--out", tmp_path / "a")
    losses = [float(line.split("loss ")[1]) for line in output.splitlines() if line.startswith("traces step")]
    assert losses[-1] < 0.75 < losses[0]
    record = json.loads((tmp_path / "a/recipe.json").read_text())
    assert record["last"]["pairs"]["unreadable"] == 0
    assert 0 < record["last"]["pairs"]["ordered"] <= 1
    engine = build_engine(
        "transformers",
        Settings(
            model=str(shapes_dir / "judge"), engine="transformers", adapters={"verifier": tmp_path / "a"}
        ).engine_options,
    )
    assert engine.adapters == {"verifier"}
    engine.close()


def test_written_chains_are_sampled_and_compared(files, shapes_dir, tmp_path):
    start = shapes_dir / "judge/adapters/verifier_cot"
    output = train_judge(
        *("--method", "verifier_cot", "--start", start, "--pairs", files[1], "--out", tmp_path / "a"),
        *("--preference-steps", 20, "--preference-batch", 1, "--chains", 2),
    )
    assert "pairs step 20: ordered" in output
    assert json.loads((tmp_path / "a/recipe.json").read_text())["last"]["pairs"]["unreadable"] < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --traces, --pairs or both"),
        (("--method", "score_logit", "--pairs", "x"), "--method score_logit: must be one of verifier, verifier_cot"),
        (("--pairs", "none.jsonl"), "none.jsonl does not exist"),
        (("--traces", "{traces}", "--method", "verifier_cot"), "trace 1 has 3 answers; verifier_cot asks 1 questions"),
    ],
)
def test_wrong_input_is_told(files, tmp_path, arguments, message):
    filled = [argument.format(traces=files[0]) for argument in arguments]
    with pytest.raises(Exception, match=message):
        train_judge(*filled, "--out", tmp_path / "a")


def test_a_task_that_the_service_would_refuse_is_told_before_the_judge_is_loaded(files, tmp_path):
    line = json.loads(files[0].read_text().splitlines()[0])
    pictures = {name: str(files[0].parent / line[name]) for name in ("source", "edited")}
    (tmp_path / "traces.jsonl").write_text(json.dumps({**line, **pictures, "task": "juggle"}))
    with pytest.raises(DataError, match=r"task 'juggle'; known: .*text_edit \(or give a requirement\)"):
        train_judge("--traces", tmp_path / "traces.jsonl", "--judge", "no/such-judge", "--out", tmp_path / "a")
