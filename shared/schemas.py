"""The wire: pydantic models of the HTTP API, version 1, used by the service, the trainer's client and the tests.

An `EditGroup` enters the service (as multipart or as a `JsonScoreRequest`); a `ScoreResponse` or a `Problem` leaves it.
All models are frozen. Unknown keys in a request are errors; in an answer they are ignored (the service may be newer).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from edit_r1.shared.fields import Names, OneOrMore

API_VERSION = "1"
DEFAULT_METHOD = "score_logit"
DEFAULT_TASK = "default"
Category = Literal["follow", "keep", "quality"]
"""Of a thing to check about an edit: what must change as asked, what must stay, or how the picture must look."""


def task_key(name: str) -> str:
    """The one spelling of a task's name: `Text Edit` and `text-edit` are `text_edit`."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


class WireModel(BaseModel):
    """Base of everything the service answers with."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class RequestModel(BaseModel):
    """Base of everything a client sends."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


def _json_text(value: object) -> object:
    """Structured fields come as JSON text in a form, as themselves in a JSON body."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error


class PrincipleSpec(RequestModel):
    """One thing that the verifier methods check."""

    question: str = Field(min_length=1, max_length=2000, description="A question whose good answer is yes.")
    category: Category = Field("follow", description="Following gates the other two.")
    weight: float = Field(1.0, gt=0, le=1000, description="Against the other principles.")


class Combination(RequestModel):
    """A mean of components."""

    rule: Literal["mean", "geometric", "min"] = Field(description="How the components become one number.")
    weights: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        min_length=1, max_length=16, description="Component (`score_logit`, `verifier.keep`, ...) -> weight."
    )

    def components(self) -> tuple[str, ...]:
        """What is combined."""
        return tuple(self.weights)


class Shaping(RequestModel):
    """Execution x consistency: R = E (w1 + w2 C) / (w1 + w2)."""

    rule: Literal["shaping"] = Field(description="Execution x consistency.")
    execution: str = Field(description="Component E, which gates the reward.")
    consistency: str = Field(description="Component C, a bonus.")
    w1: float = Field(0.6, gt=0, le=1000, description="Weight of execution by itself.")
    w2: float = Field(0.4, ge=0, le=1000, description="Weight of the bonus.")

    def components(self) -> tuple[str, ...]:
        """What is combined."""
        return (self.execution, self.consistency)


CompositeRecipe = Combination | Shaping
_Recipe = Annotated[
    Annotated[CompositeRecipe, Field(discriminator="rule")],
    BeforeValidator(_json_text, json_schema_input_type=str | CompositeRecipe),
]
_Principles = Annotated[
    tuple[PrincipleSpec, ...],
    Field(min_length=1, max_length=32),
    BeforeValidator(_json_text, json_schema_input_type=str | list[PrincipleSpec]),
]


class ScoreOptions(RequestModel):
    """What a scoring request says besides its images."""

    instruction: str = Field(min_length=1, description="What the edit was asked to do.")
    task: str | None = Field(None, description="Task type; picks the task prompt. None: `default`.")
    requirement: str | None = Field(None, min_length=1, description="Replaces the task prompt's text.")
    method: str = Field(DEFAULT_METHOD, description="Scoring method, one of GET /v1/methods.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of sampling methods; the same request gives the same score.")
    num_passes: int = Field(
        1, ge=1, le=64, description="Answers averaged per candidate; above 1 only for sampling methods."
    )
    temperature: float | None = Field(None, ge=0, le=2, description="Of sampling methods; None: the method's own.")
    reasoning: bool = Field(False, description="Return the judge's reasoning text, for methods that have one.")
    principles: _Principles | None = Field(
        None, description="What the verifier methods check (JSON in a form); None: the service's own for this edit."
    )
    composite: _Recipe | None = Field(
        None, description="Recipe of the method `composite` (JSON in a form); None: execution x consistency."
    )


class EditGroup(ScoreOptions):
    """One source, one instruction, 1..N candidate edits; images are encoded bytes (PNG, JPEG, WebP or binary PPM)."""

    sources: tuple[bytes, ...] = Field(
        min_length=1, repr=False, description="Original image(s), in the order the judge sees them."
    )
    candidates: tuple[bytes, ...] = Field(min_length=1, repr=False, description="Edited images to score.")


def _decode_base64(value: object) -> object:
    """Base64 text or a `data:` URL to bytes. Raises ValueError on anything else: no URL is ever fetched."""
    if not isinstance(value, str):
        raise ValueError("expected base64 text or a data: URL")
    text = value
    if text.startswith("data:"):
        header, _, text = text.partition(",")
        if not header.endswith(";base64"):
            raise ValueError("expected a data: URL with ;base64")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


Base64Image = Annotated[bytes, BeforeValidator(_decode_base64, json_schema_input_type=str)]
Base64Images = Annotated[tuple[Base64Image, ...], OneOrMore]


class JsonScoreRequest(ScoreOptions):
    """The JSON form of an `EditGroup`: images as base64 text or `data:` URLs."""

    source: Base64Images = Field(min_length=1, repr=False, description="One image, or several in order.")
    candidates: Base64Images = Field(min_length=1, repr=False, description="Edited images to score.")

    def to_group(self) -> EditGroup:
        """The same request with the names used inside."""
        options = self.model_dump(exclude={"source", "candidates"})
        return EditGroup(sources=self.source, candidates=self.candidates, **options)


class BatchGroup(ScoreOptions):
    """One group of a multipart batch: the names of file parts stand for the images."""

    source: Names = Field(min_length=1, description="Name of one file part, or several in order.")
    candidates: Names = Field(min_length=1, description="Names of the edited images' file parts.")

    def to_group(self, files: Mapping[str, bytes]) -> EditGroup:
        """The group with its files. Raises KeyError for a name that no file has."""
        options = self.model_dump(exclude={"source", "candidates"})
        sources, candidates = ([files[name] for name in names] for names in (self.source, self.candidates))
        return EditGroup.model_validate({"sources": sources, "candidates": candidates, **options})


class CandidateScore(WireModel):
    """The score of one candidate."""

    index: int = Field(description="Position in the request, from 0.")
    status: Literal["ok"] = Field("ok", description="Tells it from an error.")
    score: float = Field(ge=0, le=1, description="Normalised score (paper Eq. 11).")
    raw_score: float = Field(description="On the method's own scale, e.g. 0..5.")
    distribution: dict[str, float] | None = Field(
        None, description="Softmax over the label tokens; sums to 1. None: the method reads text."
    )
    score_mass: float | None = Field(
        None, description="Probability of all label tokens together in the full vocabulary."
    )
    reasoning: str | None = Field(None, description="The judge's reasoning, when asked for.")
    details: dict[str, Any] = Field(default_factory=dict, description="What else the method has to say.")


class ErrorBody(WireModel):
    """Why a candidate has no score."""

    code: str = Field(description="A stable word for programs, e.g. `invalid_image`, `unparsable_answer`.")
    message: str = Field(description="A sentence for people.")


class CandidateError(WireModel):
    """A candidate that could not be scored. It has no score; it is never 0."""

    index: int = Field(description="Position in the request, from 0.")
    status: Literal["error"] = Field("error", description="Tells it from a score.")
    error: ErrorBody = Field(description="The reason.")


CandidateResult = Annotated[CandidateScore | CandidateError, Field(discriminator="status")]


class Timing(WireModel):
    """Milliseconds spent on a request."""

    decode: float = Field(0.0, description="Decoding the images.")
    queue: float = Field(description="Mean wait of a candidate before the engine took it up.")
    engine: float = Field(description="From handing the first candidate to the engine to the last answer.")
    total: float = Field(description="From the request read to the answer built.")


class ScoreResponse(WireModel):
    """The scores of one group; `results[i]` belongs to candidate i."""

    id: str = Field(description="The request's `X-Request-ID`; in a batch with the group's number.")
    model: str = Field(description="The judge's name.")
    method: str = Field(description="The method that scored.")
    results: tuple[CandidateResult, ...] = Field(description="One a candidate, in the order of the request.")
    timing_ms: Timing = Field(description="Where the time went.")


class PromptPart(WireModel):
    """A piece of a message: text, or where an image stands."""

    type: Literal["text", "image"] = Field(description="Which of the two it is.")
    text: str | None = Field(None, description="Of a text.")
    image: str | None = Field(None, description="`source 0`, ..., `candidate 0`, ...")


class PromptMessage(WireModel):
    """One turn of the conversation the judge sees."""

    role: Literal["system", "user", "assistant"] = Field(description="Who speaks.")
    content: tuple[PromptPart, ...] = Field(description="In the order in which the judge reads it.")


class PromptQuestion(WireModel):
    """One conversation with the judge."""

    messages: tuple[PromptMessage, ...] = Field(description="Its turns.")
    text: str = Field(description="The messages through the model's chat template.")


class PromptResponse(PromptQuestion):
    """What the judge would be asked about candidate 0, unscored: the first question, and all of them."""

    model: str = Field(description="The judge's name.")
    method: str = Field(description="The method that would ask.")
    questions: tuple[PromptQuestion, ...] = Field(description="Everything asked about one candidate.")


class MethodInfo(WireModel):
    """A scoring method."""

    name: str = Field(description="As requests name it.")
    description: str = Field(description="A sentence for people.")
    raw_score_min: float = Field(description="Lowest raw score: 0 in `score`.")
    raw_score_max: float = Field(description="Highest raw score: 1 in `score`.")
    labels: tuple[str, ...] = Field(description="Label tokens whose distribution is read; empty: text is parsed.")
    parts: tuple[str, ...] = Field((), description="Names of its sub-scores, in `details.parts`.")
    sampled: bool = Field(description="Takes seed, temperature and num_passes.")
    reasoning: bool = Field(description="Can return reasoning text.")


class Limits(WireModel):
    """What the service accepts; going over one is answered with its name and value."""

    max_body_bytes: int = Field(description="Size of a request.")
    max_image_bytes: int = Field(description="Encoded size of one image.")
    max_image_pixels: int = Field(description="Width times height of one image.")
    max_candidates: int = Field(description="Candidates in one group.")
    max_sources: int = Field(description="Source images of one edit.")
    max_text_chars: int = Field(description="Characters of an instruction or requirement.")
    max_groups: int = Field(1, description="Groups in one batch request.")


class ServiceInfo(WireModel):
    """GET /v1/info."""

    api_version: str = Field(description="Of this interface.")
    model: str = Field(description="The judge's name.")
    engine: str = Field(description="What runs it; as set, until it is loaded.")
    ready: bool = Field(description="Whether it scores now.")
    versions: dict[str, str] = Field(description="Installed packages that can move scores.")
    limits: Limits = Field(description="What it accepts.")
    methods: tuple[str, ...] = Field(description="Names of the scoring methods.")
    adapters: tuple[str, ...] = Field((), description="Methods that a LoRA adapter of their name answers.")
    tasks: tuple[str, ...] = Field(description="Task types that have a task prompt.")


class Problem(BaseModel):
    """RFC 9457 problem details, the one shape of every refusal."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field("about:blank", description="As the RFC has it where `title` says it all.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="A sentence for people: field, value and limit.")
    code: str = Field(description="A stable word for programs.")
