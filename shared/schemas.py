"""Pydantic models of the HTTP API, version 1, used by the service, the trainer's client and the tests.

The service takes an `EditGroup` (as multipart or as a `JsonScoreRequest`) and returns a `ScoreResponse` or a `Problem`.
All models are frozen. Unknown keys are errors in requests and ignored in responses (the service may be newer).
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
"""Category of a principle: what must change as asked, what must stay the same, or how the image must look."""


def task_key(name: str) -> str:
    """Normalise a task name: `Text Edit` and `text-edit` become `text_edit`."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


class WireModel(BaseModel):
    """Base of everything the service returns."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class RequestModel(BaseModel):
    """Base of everything a client sends."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


def _json_text(value: object) -> object:
    """Parse a structured field: JSON text in a form, a plain value in a JSON body."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error


class PrincipleSpec(RequestModel):
    """One check made by the verifier methods."""

    question: str = Field(min_length=1, max_length=2000, description="A question that a good edit answers with yes.")
    category: Category = Field("follow", description="`follow` gates the other two categories.")
    weight: float = Field(1.0, gt=0, le=1000, description="Weight relative to the other principles.")


class Combination(RequestModel):
    """A mean of components."""

    rule: Literal["mean", "geometric", "min"] = Field(description="How the components are combined.")
    weights: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        min_length=1, max_length=16, description="Component (`score_logit`, `verifier.keep`, ...) -> weight."
    )

    def components(self) -> tuple[str, ...]:
        """Names of the combined components."""
        return tuple(self.weights)


class Shaping(RequestModel):
    """Execution x consistency: R = E (w1 + w2 C) / (w1 + w2)."""

    rule: Literal["shaping"] = Field(description="Execution x consistency.")
    execution: str = Field(description="Component E, which gates the reward.")
    consistency: str = Field(description="Component C, a bonus.")
    w1: float = Field(0.6, gt=0, le=1000, description="Weight of execution alone.")
    w2: float = Field(0.4, ge=0, le=1000, description="Weight of the bonus.")

    def components(self) -> tuple[str, ...]:
        """Names of the combined components."""
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
    """All fields of a scoring request except the images."""

    instruction: str = Field(min_length=1, description="The edit instruction.")
    task: str | None = Field(None, description="Task type; selects the task prompt. None: `default`.")
    requirement: str | None = Field(None, min_length=1, description="Requirement text that replaces the task prompt.")
    expected_text: str | None = Field(
        None, min_length=1, description="Text that the edited image must show, for measures that read it."
    )
    method: str = Field(DEFAULT_METHOD, description="Scoring method, one of GET /v1/methods.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed for sampling methods; equal requests get equal scores.")
    num_passes: int = Field(
        1, ge=1, le=64, description="Number of answers averaged per candidate; above 1 only for sampling methods."
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="Temperature for sampling methods; None: the method's default."
    )
    reasoning: bool = Field(False, description="Return the judge's reasoning text, for methods that produce it.")
    principles: _Principles | None = Field(
        None,
        description="Principles that verifier methods check (JSON in a form); None: the service's own for this edit.",
    )
    composite: _Recipe | None = Field(
        None, description="Recipe for the method `composite` (JSON in a form); None: execution x consistency."
    )


_MASK = "Where the first source may change, for measures: an image of its size; white may, black must not."


class EditGroup(ScoreOptions):
    """One source, one instruction, 1..N candidate edits; images are encoded bytes (PNG, JPEG, WebP or binary PPM)."""

    sources: tuple[bytes, ...] = Field(
        min_length=1, repr=False, description="Original image(s), in the order the judge sees them."
    )
    candidates: tuple[bytes, ...] = Field(min_length=1, repr=False, description="Edited images to score.")
    mask: bytes | None = Field(None, repr=False, description=_MASK)


def _decode_base64(value: object) -> object:
    """Decode base64 text or a `data:` URL. Raises ValueError on anything else: URLs are never fetched."""
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
    mask: Base64Image | None = Field(None, repr=False, description=_MASK)

    def to_group(self) -> EditGroup:
        """The same request as an `EditGroup`."""
        options = self.model_dump(exclude={"source", "candidates"})
        return EditGroup(sources=self.source, candidates=self.candidates, **options)


class BatchGroup(ScoreOptions):
    """One group of a multipart batch; images are given as names of file parts."""

    source: Names = Field(min_length=1, description="Name of one file part, or several in order.")
    candidates: Names = Field(min_length=1, description="Names of the edited images' file parts.")
    mask: str | None = Field(None, description="Name of the mask's file part.")

    def to_group(self, files: Mapping[str, bytes]) -> EditGroup:
        """The group with its files. Raises KeyError for an unknown file name."""
        options = self.model_dump(exclude={"source", "candidates", "mask"})
        sources, candidates = ([files[name] for name in names] for names in (self.source, self.candidates))
        mask = None if self.mask is None else files[self.mask]
        return EditGroup.model_validate({"sources": sources, "candidates": candidates, "mask": mask, **options})


class CandidateScore(WireModel):
    """The score of one candidate."""

    index: int = Field(description="Position in the request, from 0.")
    status: Literal["ok"] = Field("ok", description="Distinguishes a score from an error.")
    score: float = Field(ge=0, le=1, description="Normalised score (paper Eq. 11).")
    raw_score: float = Field(description="Score on the method's own scale, e.g. 0..5.")
    distribution: dict[str, float] | None = Field(
        None, description="Softmax over the label tokens; sums to 1. None: the method parses text."
    )
    score_mass: float | None = Field(None, description="Total probability of the label tokens in the full vocabulary.")
    reasoning: str | None = Field(None, description="The judge's reasoning, if requested.")
    details: dict[str, Any] = Field(default_factory=dict, description="Additional method-specific results.")


class ErrorBody(WireModel):
    """Why a candidate has no score."""

    code: str = Field(description="Stable machine-readable code, e.g. `invalid_image`, `unparsable_answer`.")
    message: str = Field(description="Human-readable message.")


class CandidateError(WireModel):
    """A candidate that could not be scored. It has no score; it is never 0."""

    index: int = Field(description="Position in the request, from 0.")
    status: Literal["error"] = Field("error", description="Distinguishes an error from a score.")
    error: ErrorBody = Field(description="The reason.")


CandidateResult = Annotated[CandidateScore | CandidateError, Field(discriminator="status")]


class Timing(WireModel):
    """Milliseconds spent on a request."""

    decode: float = Field(0.0, description="Decoding the images.")
    queue: float = Field(description="Mean time a candidate waited before the engine took it.")
    engine: float = Field(description="From handing the first candidate to the engine until the last answer.")
    total: float = Field(description="From the end of reading the request until the response is built.")


class ScoreResponse(WireModel):
    """The scores of one group; `results[i]` belongs to candidate i."""

    id: str = Field(description="The request's `X-Request-ID`; in a batch, with the group's number appended.")
    model: str = Field(description="The judge's name.")
    method: str = Field(description="The scoring method used.")
    results: tuple[CandidateResult, ...] = Field(description="One per candidate, in request order.")
    timing_ms: Timing = Field(description="Where the time went.")


class PromptPart(WireModel):
    """A part of a message: text, or the placeholder of an image."""

    type: Literal["text", "image"] = Field(description="Kind of part.")
    text: str | None = Field(None, description="The text of a text part.")
    image: str | None = Field(None, description="The image of an image part: `source 0`, ..., `candidate 0`, ...")


class PromptMessage(WireModel):
    """One turn of the conversation the judge sees."""

    role: Literal["system", "user", "assistant"] = Field(description="Speaker of the message.")
    content: tuple[PromptPart, ...] = Field(description="Parts in the order the judge reads them.")


class PromptQuestion(WireModel):
    """One conversation with the judge."""

    messages: tuple[PromptMessage, ...] = Field(description="Its turns.")
    text: str = Field(description="The messages rendered with the model's chat template.")


class PromptResponse(PromptQuestion):
    """The questions that the judge would be asked about candidate 0 (compared with candidate 1, by a method that
    compares): the first one, and all of them.
    """

    model: str = Field(description="The judge's name.")
    method: str = Field(description="The scoring method.")
    questions: tuple[PromptQuestion, ...] = Field(description="All questions asked about one candidate.")


class MethodInfo(WireModel):
    """A scoring method."""

    name: str = Field(description="Name used in requests.")
    description: str = Field(description="Human-readable description.")
    raw_score_min: float = Field(description="Lowest raw score; maps to `score` 0.")
    raw_score_max: float = Field(description="Highest raw score; maps to `score` 1.")
    labels: tuple[str, ...] = Field(description="Label tokens whose distribution is read; empty: text is parsed.")
    parts: tuple[str, ...] = Field((), description="Names of its sub-scores in `details.parts`.")
    relative: bool = Field(
        False,
        description="Whether it compares the candidates of a group, so that a score depends on the others; needs two.",
    )
    sampled: bool = Field(description="Whether it takes seed, temperature and num_passes.")
    reasoning: bool = Field(description="Whether it can return reasoning text.")


class Limits(WireModel):
    """Request limits; an error response names the limit that was exceeded and its value."""

    max_body_bytes: int = Field(description="Maximum size of a request.")
    max_image_bytes: int = Field(description="Maximum encoded size of one image.")
    max_image_pixels: int = Field(description="Maximum width times height of one image.")
    max_candidates: int = Field(description="Maximum number of candidates per group.")
    max_sources: int = Field(description="Maximum number of source images per edit.")
    max_text_chars: int = Field(description="Maximum number of characters in an instruction or requirement.")
    max_groups: int = Field(1, description="Maximum number of groups per batch request.")


class ServiceInfo(WireModel):
    """GET /v1/info."""

    api_version: str = Field(description="Version of this API.")
    model: str = Field(description="The judge's name.")
    engine: str = Field(description="Engine that runs the judge; the configured value until it is loaded.")
    ready: bool = Field(description="Whether the service is ready to score.")
    versions: dict[str, str] = Field(description="Versions of installed packages that can affect scores.")
    limits: Limits = Field(description="Request limits.")
    methods: tuple[str, ...] = Field(description="Names of the scoring methods.")
    relative_methods: tuple[str, ...] = Field(
        (), description="Those methods that compare the candidates of a group; their scores depend on the group."
    )
    adapters: tuple[str, ...] = Field((), description="Methods answered by the LoRA adapter of the same name.")
    warnings: tuple[str, ...] = Field((), description="Settings under which scores are not what they should be.")
    tasks: tuple[str, ...] = Field(description="Task types that have a task prompt.")
    labels: dict[str, dict[str, int]] = Field(
        default_factory=dict,
        description="Label -> the judge's tokens that count for it (text -> id); empty until the judge is loaded.",
    )


class Problem(BaseModel):
    """RFC 9457 problem details, the format of every error response."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field("about:blank", description="The RFC's value for problems fully described by `title`.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="Human-readable message: field, value and limit.")
    code: str = Field(description="Stable machine-readable code.")
