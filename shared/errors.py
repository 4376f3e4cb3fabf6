"""Every error that Edit-R1 raises on purpose, in one tree; the programs import their errors from here.

    EditR1Error
    ├── ConfigError               a configuration file or override is wrong
    ├── DataError                 a task list, or a file it names, is wrong
    ├── CheckpointError           a checkpoint is missing, damaged, or of another run
    ├── ImageError                bytes that are not an image we accept (`code` says why)
    ├── JudgeError                what the reward service's model cannot do
    │   ├── UnsuitableModelError    refused at start: a label is not one token, the self-test fails, ...
    │   ├── UnparsableAnswerError   the judge answered, but not with a score
    │   └── EngineError             the engine failed on this candidate
    │       └── EngineDiedError       the engine failed for good
    ├── EndpointError             seen from the client of a chat endpoint, in `edit-r1 evaluate` and `edit-r1 data`
    │   ├── EndpointUnavailable     not reachable, or too busy, until the limit
    │   ├── EndpointRefused         it will not take this question
    │   └── EndpointFailed          it broke down over this question
    └── RewardServiceError        seen from the client's side
        ├── RewardServiceUnavailable  not reachable or not ready within the limit
        └── RewardRequestRejected     the service refused the request (`problem` says why)

A message names the field or item, the value found, and what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from edit_r1.shared.schemas import Problem

ImageErrorCode = Literal["invalid_image", "unsupported_image_type", "image_too_large"]


class EditR1Error(Exception):
    """Root of the tree."""


class ConfigError(EditR1Error):
    """A configuration file or override is wrong; the message lists every fault."""


class DataError(EditR1Error):
    """A task list, or a file it names, is wrong."""


class CheckpointError(EditR1Error):
    """A checkpoint is missing, damaged, or belongs to another run."""


class ImageError(EditR1Error):
    """Bytes that are not an image we accept.

    Attributes:
        code: `invalid_image` (not decodable), `unsupported_image_type` (a type we do not take),
            or `image_too_large` (bytes, pixels or side ratio over a limit).

    """

    def __init__(self, code: ImageErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ImageErrorCode = code


class JudgeError(EditR1Error):
    """Something that the reward service's model cannot do; `code` is the word clients see."""

    code: ClassVar[str] = "judge_error"


class UnsuitableModelError(JudgeError):
    """The model cannot serve as a judge; found at start, so that no wrong score is ever given."""

    code = "unsuitable_model"


class UnparsableAnswerError(JudgeError):
    """The judge answered, but its answer holds no score."""

    code = "unparsable_answer"


class EngineError(JudgeError):
    """The engine failed on one candidate."""

    code = "engine_error"


class EngineDiedError(EngineError):
    """The engine can answer nothing any more; the process must end so that a supervisor starts another."""

    code = "engine_died"


class EndpointError(EditR1Error):
    """A chat endpoint that `edit-r1 evaluate` or `edit-r1 data` asked could not give what it was asked for."""


class EndpointUnavailable(EndpointError):  # noqa: N818 - the state is the name
    """The endpoint is not reachable, or too busy, and stayed so until the limit."""


class EndpointRefused(EndpointError):  # noqa: N818 - the event is the name
    """The endpoint will not take this question; sending it again would not help, another question may pass."""


class EndpointFailed(EndpointError):  # noqa: N818 - the event is the name
    """The endpoint broke down over this question, or answered with what is no chat completion."""


class RewardServiceError(EditR1Error):
    """The reward service could not give scores."""


class RewardServiceUnavailable(RewardServiceError):  # noqa: N818 - the state is the name
    """The service is not reachable, not ready, or too busy, and stayed so until the limit."""


class RewardRequestRejected(RewardServiceError):  # noqa: N818 - the event is the name
    """The service refused the request; sending it again would not help.

    Attributes:
        problem: the service's RFC 9457 answer, with its `status`, `code` and `detail`.

    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"reward service answered {problem.status} {problem.code}: {problem.detail}")
        self.problem = problem


def suggest(name: str, known: Sequence[str]) -> str:
    """How a message about an unknown name ends: the one that was probably meant, else all that there are."""
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"


def fault_line(fault: ErrorDetails, whole: str = "(whole)") -> str:
    """One fault of a pydantic validation: the field, or `whole` where it is no single field's, and what is wrong."""
    where = ".".join(map(str, fault["loc"])) or whole
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
