"""The steps of an evaluation: images, questions, answers, verdicts, results.

From a benchmark, its images and a judge it writes the output directory:

    pictures/     every edit in the benchmark's official layout
    cache/        the edits by content, the judge's answers, sources unpacked from tables; reused by reruns
    results.json, results.md, gallery.html, and for ImgEdit the authors' own files
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edit_r1.shared.chat.completions import Usage
from edit_r1.shared.errors import DataError, EndpointError
from edit_r1.shared.files import place, write_text
from edit_r1.workbench.clients.chat import ChatClient, Endpoint
from edit_r1.workbench.clients.spending import Prices, after, before, estimate, total
from edit_r1.workbench.evaluation.benchmarks import Benchmark, Item, find_picture
from edit_r1.workbench.evaluation.judging import Answer, AnswerStore, Judge, Question
from edit_r1.workbench.evaluation.output import gallery, writing
from edit_r1.workbench.evaluation.process_share import Share
from edit_r1.workbench.evaluation.results import JudgedItem, JudgeInfo, Results, stored_path
from edit_r1.workbench.evaluation.rubrics import Prompts, Verdict, questions, read

if TYPE_CHECKING:
    from edit_r1.workbench.evaluation.editors import Subject
    from edit_r1.workbench.evaluation.generating import Edits

GALLERY_NAME = "gallery.html"
NO_PICTURE = "no picture"
Tell = Callable[[str], None]


def cache_directory(out: Path) -> Path:
    """Directory of everything that reruns reuse."""
    return out / "cache"


def make_pictures(
    benchmark: Benchmark, subject: Subject, out: Path, *, seed: int, share: Share, tell: Tell
) -> dict[str, Path]:
    """Path of every item's image by key, generating missing ones; other processes generate their share."""
    # Imported here because judging and comparing need no torch.
    from edit_r1.workbench.evaluation.generating import generate, picture_path, wait_for  # noqa: PLC0415

    store = cache_directory(out) / "pictures"
    paths = {item.key: picture_path(store, subject.identity, item, seed) for item in benchmark.items}
    num_there = sum(path.exists() for path in paths.values())
    if num_there:
        tell(f"{num_there} of {len(paths)} images already exist")

    def load() -> Edits:
        import torch  # noqa: PLC0415 - not needed when all images exist

        from edit_r1.workbench.editing.editor import Editor  # noqa: PLC0415

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        if subject.config.cpu_threads is not None:
            torch.set_num_threads(subject.config.cpu_threads)
        editor = Editor(subject.config, subject.weights)
        if warning := editor.cut_instructions({item.instruction for item in benchmark.items}):
            tell(warning)
        return editor

    generate(benchmark.items, paths, load, seed=seed, share=share, tell=tell)
    if share.rank != 0:
        return paths
    wait_for(paths.values(), tell)
    for item in benchmark.items:
        place(paths[item.key], official := out / "pictures" / benchmark.official_path(item))
        if benchmark.name == "gedit":
            place(item.source, official.with_name(f"{official.stem}_SRCIMG.png"))
    return paths


def find_pictures(benchmark: Benchmark, directory: Path, tell: Tell) -> dict[str, Path]:
    """Existing images by key; missing ones are reported and get no verdict.

    Raises DataError when there are none.
    """
    found = {item.key: path for item in benchmark.items if (path := find_picture(benchmark, item, directory))}
    if not found:
        raise DataError(
            f"{directory} has no images of this benchmark, such as {benchmark.official_path(benchmark.items[0])}"
        )
    missing = [item.key for item in benchmark.items if item.key not in found]
    if missing:
        tell(f"WARNING: {len(missing)} of {len(benchmark.items)} images are missing; first: {missing[0]}")
    return found


def judge(
    benchmark: Benchmark,
    pictures: Mapping[str, Path],
    out: Path,
    *,
    prompts: Prompts,
    endpoint: Endpoint,
    editor: dict[str, Any],
    seed: int,
    per_type: int,
    prices: Prices,
    tell: Tell,
) -> str:
    """Judge every image and write the results; returns the tables. Raises EndpointError when there is no verdict."""
    asked = {
        item.key: questions(benchmark.name, item, pictures[item.key], prompts)
        for item in benchmark.items
        if item.key in pictures
    }
    answers = asyncio.run(_ask(asked, endpoint, AnswerStore(cache_directory(out) / "answers.jsonl"), prices, tell))
    verdicts = {item.key: _verdict(benchmark, item, answers.get(item.key)) for item in benchmark.items}
    if all(verdict.value is None for verdict in verdicts.values()):
        first = next(verdict.missing for verdict in verdicts.values() if verdict.missing != NO_PICTURE)
        raise EndpointError(f"none of {len(asked)} edits got a verdict; first failure: {first}")
    evaluation = Results(
        benchmark=benchmark.name,
        description=benchmark.describe(),
        editor=editor,
        seed=seed,
        judge=JudgeInfo(model=endpoint.model, url=endpoint.url, prompts=prompts.origin, prompts_digest=prompts.digest),
        judged_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        items=tuple(
            _judged(out, item, pictures.get(item.key), verdicts[item.key], answers.get(item.key, {}))
            for item in benchmark.items
        ),
        usage=_usage(answers),
    )
    report = writing.write(out, evaluation)
    sections = gallery.evaluation_sections(out, evaluation, per_type)
    write_text(out / GALLERY_NAME, gallery.render(report, sections))
    return report.markdown()


async def _ask(
    asked: Mapping[str, Mapping[str, Question]], endpoint: Endpoint, store: AnswerStore, prices: Prices, tell: Tell
) -> dict[str, dict[str, Answer]]:
    flat = [(key, name, question) for key, named in asked.items() for name, question in named.items()]
    num_done = 0

    def count() -> None:
        nonlocal num_done
        num_done += 1
        if num_done % max(1, len(flat) // 10) == 0:
            tell(f"answered {num_done} of {len(flat)} questions")

    async with ChatClient(endpoint) as client:
        await client.check()
        judge, asked_all = Judge(client, store), [question for _, _, question in flat]
        open_ones = await judge.pending(asked_all)
        expected = estimate([one.size() for one in open_ones], len(open_ones), endpoint.max_tokens)
        tell(before(len(open_ones), expected, prices))
        answers = await judge.ask(asked_all, count)
        tell(after(client.used, prices))
    found: dict[str, dict[str, Answer]] = {key: {} for key in asked}
    for (key, name, _), answer in zip(flat, answers, strict=True):
        found[key][name] = answer
    return found


def _usage(answers: Mapping[str, Mapping[str, Answer]]) -> Usage | None:
    """Tokens of all answers; None when the judge reports none."""
    found = [answer.usage for named in answers.values() for answer in named.values()]
    return total(found) if any(found) else None


def _verdict(benchmark: Benchmark, item: Item, answers: Mapping[str, Answer] | None) -> Verdict:
    return Verdict(None, missing=NO_PICTURE) if answers is None else read(benchmark.name, item, answers)


def _judged(out: Path, item: Item, picture: Path | None, verdict: Verdict, answers: Mapping[str, Answer]) -> JudgedItem:
    return JudgedItem(
        key=item.key,
        type=item.type,
        language=item.language,
        intersection=item.intersection,
        instruction=item.instruction,
        source=stored_path(item.source, out),
        picture=None if picture is None else stored_path(picture, out),
        value=verdict.value,
        parts=dict(verdict.parts),
        official=verdict.official,
        missing=verdict.missing,
        answers={name: answer.text for name, answer in answers.items()},
    )
