"""How each benchmark queries its judge: turns prompts into questions, and answers into a verdict.

ImgEdit   one question showing original and edit: three criteria of the edit's type, 1..5 each
GEdit     `sc` shows original and edit, `pq` only the edit: two scores each, 0..10; the edit at the original's size
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from edit_r1.shared.errors import DataError, UnparsableAnswerError
from edit_r1.shared.images import content_hash
from edit_r1.workbench.evaluation.aggregation import gedit_scores
from edit_r1.workbench.evaluation.benchmarks import BenchmarkName, Item
from edit_r1.workbench.evaluation.judging import Answer, Question, Shown
from edit_r1.workbench.evaluation.parsing import criteria_scores, json_scores, official_mean

CRITERIA: Mapping[str, tuple[str, str, str]] = {
    "replace": ("Prompt Compliance", "Visual Naturalness", "Physical & Detail Integrity"),
    "add": ("Prompt Compliance", "Visual Naturalness", "Physical & Detail Coherence"),
    "adjust": ("Prompt Compliance", "Visual Seamlessness", "Physical & Detail Fidelity"),
    "remove": ("Prompt Compliance", "Visual Naturalness", "Physical & Detail Integrity"),
    "style": ("Style Fidelity", "Content Preservation", "Rendering Quality"),
    "action": ("Action Fidelity", "Identity Preservation", "Visual & Anatomical Coherence"),
    "extract": ("Object Identity", "Mask Precision", "Visual Quality"),
    "background": ("Instruction Compliance", "Visual Seamlessness", "Physical Consistency"),
    "compose": ("Instruction Compliance", "Visual Naturalness", "Physical Consistency & Fine Detail"),
}
"""ImgEdit's criteria by task type, as named in answers."""
PLACEHOLDERS: Mapping[BenchmarkName, str] = {"imgedit": "<edit_prompt>", "gedit": "<instruction>"}
"""Placeholder of the instruction in a prompt, the same as in the authors' files."""
_NAMES: Mapping[BenchmarkName, Sequence[str]] = {"imgedit": tuple(CRITERIA), "gedit": ("sc", "pq")}
_OURS = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Prompts:
    """Prompts of the judge, by task type (ImgEdit) or by question (GEdit)."""

    texts: Mapping[str, str]
    origin: str
    """Human-readable origin."""

    @property
    def digest(self) -> str:
        """Digest of the texts."""
        return content_hash(json.dumps(self.texts, sort_keys=True).encode())


@dataclass(frozen=True)
class Verdict:
    """The judge's verdict on one edit."""

    value: float | None
    """ImgEdit: mean of the criteria, 1..5. GEdit: O = sqrt(SC PQ), 0..10. None when missing."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """ImgEdit: scores by criterion. GEdit: SC and PQ."""
    official: float | None = None
    """ImgEdit: score by the authors' parser; None when it drops the answer."""
    missing: str | None = None
    """Reason when there is no value."""


def load_prompts(benchmark: BenchmarkName, path: Path | None) -> Prompts:
    """Load our prompts, or those in a directory of NAME.txt or a JSON file like ImgEdit's prompts.json.

    Raises DataError when a text or its instruction placeholder is missing.
    """
    source = path or _OURS / benchmark
    try:
        if source.is_file():
            texts = json.loads(source.read_text(encoding="utf-8"))
        else:
            texts = {name: (source / f"{name}.txt").read_text(encoding="utf-8") for name in _NAMES[benchmark]}
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read prompts {source}: {error}") from error
    if not isinstance(texts, dict):
        raise DataError(f"prompts {source}: expected an object of texts, got a {type(texts).__name__}")
    for name in _NAMES[benchmark]:
        if not isinstance(texts.get(name), str):
            raise DataError(f"prompts {source}: the text {name!r} is missing")
        if name != "pq" and PLACEHOLDERS[benchmark] not in texts[name]:
            raise DataError(f"prompts {source}: {name!r} lacks the placeholder {PLACEHOLDERS[benchmark]}")
    kept = {name: texts[name] for name in _NAMES[benchmark]}
    return Prompts(kept, "ours" if path is None else str(path))


def questions(benchmark: BenchmarkName, item: Item, edited: Path, prompts: Prompts) -> dict[str, Question]:
    """Questions about one edit, by name."""
    source = Shown(item.source)
    texts = {
        name: text.replace(PLACEHOLDERS[benchmark], item.instruction)
        for name, text in prompts.texts.items()
        if benchmark == "gedit" or name == item.type
    }
    if benchmark == "imgedit":
        return {"rating": Question(item.key, texts[item.type], (source, Shown(edited)))}
    resized = Shown(edited, like=item.source)
    return {
        "sc": Question(f"{item.key} sc", texts["sc"], (source, resized)),
        "pq": Question(f"{item.key} pq", texts["pq"], (resized,)),
    }


def read(benchmark: BenchmarkName, item: Item, answers: Mapping[str, Answer]) -> Verdict:
    """Parse the answers to `questions` into a verdict."""
    official = official_mean(answers["rating"].text) if benchmark == "imgedit" else None
    if silent := [answer.trouble for answer in answers.values() if answer.text is None]:
        return Verdict(None, missing=silent[0])
    texts = {name: answer.text or "" for name, answer in answers.items()}
    try:
        if benchmark == "imgedit":
            criteria = CRITERIA[item.type]
            scores = criteria_scores(texts["rating"], criteria)
            return Verdict(fmean(scores), dict(zip(criteria, map(float, scores), strict=True)), official)
        scored = gedit_scores(json_scores(texts["sc"], 2), json_scores(texts["pq"], 2))
    except UnparsableAnswerError as error:
        cut = next((answer.cut for answer in answers.values() if answer.cut), None)
        return Verdict(None, official=official, missing=cut or f"unparsable: {error}")
    return Verdict(scored.overall, {"SC": scored.semantic, "PQ": scored.quality})
