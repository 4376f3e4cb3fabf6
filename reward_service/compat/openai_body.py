"""The body of a chat request: fields a client may use; every other field is rejected by name, with the reason.

Turns JSON into a `ChatRequest`: the fields as sent, and the messages with their images decoded. Chat shares the engine
with scoring, so anything that would affect scores, or show other pixels than `/v1/score` does, is rejected.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from edit_r1.reward_service.problems import ProblemError
from edit_r1.reward_service.types import JudgeImage, Message, Messages
from edit_r1.shared.errors import ImageError
from edit_r1.shared.fields import OneOrMore
from edit_r1.shared.images import ImageLimits, content_hash, decode
from edit_r1.shared.schemas import Base64Image

_BESIDE_SCORES = (
    "top log-probabilities are corrupted when batched with score requests (vllm issue 51789); "
    "name tokens in logprob_token_ids instead"
)
_PROCESSORS = "changing logits is not supported, because score requests share the engine"
_GRAMMARS = "structured output masks logits in the engine that scores; ask for the format in the prompt instead"
_PIXELS = "images are processed exactly as for /v1/score, which shares their caches"
_TOOLS = "the judge has no tools"
_REASONS = {
    **dict.fromkeys(("logprobs", "top_logprobs", "prompt_logprobs", "echo"), _BESIDE_SCORES),
    **dict.fromkeys(("logit_bias", "allowed_token_ids", "bad_words", "min_tokens", "stop_token_ids"), _PROCESSORS),
    **dict.fromkeys(("logits_processors", "vllm_xargs"), _PROCESSORS),
    **dict.fromkeys(("response_format", "structured_outputs", "guided_json", "guided_regex"), _GRAMMARS),
    **dict.fromkeys(("guided_choice", "guided_grammar"), _GRAMMARS),
    **dict.fromkeys(("mm_processor_kwargs", "media_io_kwargs", "truncate_prompt_tokens"), _PIXELS),
    **dict.fromkeys(("tools", "tool_choice", "functions", "function_call"), _TOOLS),
    "priority": "it would overtake score requests",
    "use_beam_search": "beam search needs log-probabilities: " + _BESIDE_SCORES,
    "chat_template": "the judge's own template is always used",
}
_NEUTRAL: dict[str, Any] = {
    "tool_choice": "none",
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "skip_special_tokens": True,
    "n": 1,
}
"""Values that have no effect, like null, false, 0 and empty values."""


class ChatRefusal(ProblemError):  # noqa: N818 - the event is the name
    """A rejected chat request; `field` is the invalid field, if there is one."""

    def __init__(self, status: int, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(status, code, detail)
        self.field = field


def refused(field: str, reason: str) -> ChatRefusal:
    """400 for an invalid field."""
    return ChatRefusal(400, "invalid_field", f"{field}: {reason}", field)


def _data_url(value: object) -> object:
    if not isinstance(value, str) or not value.startswith("data:"):
        raise ValueError("an image must be a base64 data: URL; this service fetches no URLs and opens no files")
    return value


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Text(_Model):
    type: Literal["text"]
    text: str


class _Url(_Model):
    url: Annotated[Base64Image, BeforeValidator(_data_url)]
    detail: str | None = None


class _Picture(_Model):
    type: Literal["image_url"]
    image_url: Annotated[_Url, BeforeValidator(lambda value: {"url": value} if isinstance(value, str) else value)]


_Part = Annotated[_Text | _Picture, Field(discriminator="type")]


class _Turn(_Model):
    role: Literal["system", "user", "assistant"]
    content: Annotated[
        list[_Part],
        BeforeValidator(lambda value: [{"type": "text", "text": value}] if isinstance(value, str) else value),
    ]


_Stops = Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], OneOrMore]


class ChatFields(_Model):
    """Supported fields, with the names of OpenAI's API and of vLLM's extensions."""

    messages: list[_Turn] = Field(min_length=1)
    model: str | None = None
    user: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int = Field(1, ge=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, ge=0.1, le=10)
    stop: _Stops | None = Field(None, max_length=16)
    stream: bool = False
    stream_options: dict[Literal["include_usage"], bool] | None = None
    chat_template_kwargs: dict[Literal["enable_thinking"], bool] | None = None
    logprobs: bool = False
    logprob_token_ids: list[int] | None = Field(None, min_length=1, max_length=64)
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False


@dataclass(frozen=True)
class ChatRequest:
    """A validated request."""

    fields: ChatFields
    messages: Messages

    @property
    def asked(self) -> dict[str, Any]:
        """The fields that were sent, except the messages."""
        return self.fields.model_dump(exclude={"messages"}, exclude_unset=True)

    @property
    def max_tokens(self) -> int | None:
        """Maximum number of tokens in the answer, under the newer or the older name."""
        return self.fields.max_completion_tokens or self.fields.max_tokens


@dataclass(frozen=True)
class ChatLimits:
    """The service's limits that apply to chat."""

    images: ImageLimits
    max_images: int
    max_text_chars: int
    max_answers: int
    max_model_len: int | None
    control_tokens: Collection[str]
    """Texts that the tokenizer parses as structure; a placeholder without its image crashes vLLM."""


def read_chat(body: Any, limits: ChatLimits) -> ChatRequest:
    """Validate a body and decode its images.

    Raises:
        ChatRefusal: for the first field that is invalid, over a limit, or not supported.

    """
    if not isinstance(body, dict):
        raise ChatRefusal(400, "invalid_body", "the body must be a JSON object")
    sent = {name: value for name, value in body.items() if value and value != _NEUTRAL.get(name)}
    _refuse_fields(sent)
    # Keep falsy values of known fields: temperature 0 has a meaning.
    kept = {name: value for name, value in body.items() if name in ChatFields.model_fields and value is not None}
    try:
        fields = ChatFields.model_validate(kept)
    except ValidationError as error:
        fault = error.errors()[0]
        # For a union discriminated by `type`, pydantic adds the chosen tag as an extra step.
        steps = [str(step) for step, before in zip(fault["loc"], (None, *fault["loc"]), strict=False) if step != before]
        raise refused(".".join(steps), fault["msg"].removeprefix("Value error, ")) from error
    _check_limits(fields, limits)
    return ChatRequest(
        fields, tuple(_message(turn, number, limits.images) for number, turn in enumerate(fields.messages))
    )


def _refuse_fields(sent: dict[str, Any]) -> None:
    named = "logprob_token_ids" in sent
    for name in sent:
        if name in _REASONS and not (name == "logprobs" and named):
            raise refused(name, _REASONS[name])
        if name not in ChatFields.model_fields:
            raise refused(name, f"not supported; supported fields: {', '.join(ChatFields.model_fields)}")
    if named and not sent.get("logprobs"):
        raise refused("logprob_token_ids", "requires logprobs: true")


def _check_limits(fields: ChatFields, limits: ChatLimits) -> None:
    parts = [part for turn in fields.messages for part in turn.content]
    texts = [part.text for part in parts if isinstance(part, _Text)]
    counts = (
        ("messages", sum(map(len, texts)), "characters", limits.max_text_chars, "max_text_chars"),
        ("messages", len(parts) - len(texts), "images", limits.max_images, "max_sources plus 1"),
        ("n", fields.n, "answers", limits.max_answers, "max_candidates"),
        ("max_tokens", fields.max_tokens or 0, "tokens", limits.max_model_len, "max_model_len"),
        ("max_completion_tokens", fields.max_completion_tokens or 0, "tokens", limits.max_model_len, "max_model_len"),
    )
    for name, found, unit, limit, setting in counts:
        if limit is not None and found > limit:
            raise refused(name, f"{found:,} {unit}; the limit is {limit:,} ({setting})")
    for text in texts:
        for token in limits.control_tokens:
            if token in text:
                raise refused("messages", f"contains the judge's control token {token}")


def _message(turn: _Turn, number: int, limits: ImageLimits) -> Message:
    content: list[str | JudgeImage] = []
    for index, part in enumerate(turn.content):
        if isinstance(part, _Text):
            content.append(part.text)
            continue
        data = part.image_url.url
        try:
            content.append(JudgeImage(decode(data, limits), content_hash(data)))
        except ImageError as error:
            raise refused(f"messages.{number}.content.{index}", str(error)) from error
    return Message(turn.role, tuple(content))
