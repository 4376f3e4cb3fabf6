"""Every error that Edit-R1 raises deliberately, in one hierarchy.

    EditR1Error
    ├── ConfigError               a configuration file or override is invalid
    │   └── AccountError            a chat endpoint refuses the account: key, credit or quota
    ├── DataError                 a task list, or a file it names, is invalid
    ├── CheckpointError           a checkpoint is missing, damaged, or from another run
    ├── ImageError                bytes that are not an accepted image (`code` says why)
    ├── JudgeError                the reward service's model cannot do what it should
    │   ├── UnsuitableModelError    rejected at start-up: a label is not one token, the self-test fails, ...
    │   ├── UnparsableAnswerError   the judge answered, but not with a score
    │   ├── NotComparableError      no other candidate of the group is left to compare this one with
    │   ├── MeasureError            a measure has no score for this candidate
    │   └── EngineError             the engine failed on this candidate
    │       └── EngineUnavailableError  the engine cannot answer anything at present
    │           ├── EngineAccountError    the API that it uses refuses the account
    │           └── EngineDiedError       the engine failed permanently
    ├── EndpointError             client-side errors of a chat endpoint, in `edit-r1 evaluate` and `edit-r1 data`
    │   ├── EndpointUnavailable     unreachable or too busy until the time limit
    │   ├── EndpointRefused         the endpoint rejects this question
    │   └── EndpointFailed          the endpoint failed while answering this question
    └── RewardServiceError        client-side errors of the reward service
        ├── RewardServiceUnavailable  unreachable or not ready within the time limit
        └── RewardRequestRejected     the service rejected the request (`problem` says why)

Each message names the field or item, the value found, and what is accepted.
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
    """Base class of all deliberate errors."""


class ConfigError(EditR1Error):
    """A configuration file or override is invalid; the message lists every mistake."""


class AccountError(ConfigError):
    """A chat endpoint refuses the account (key, credit or quota); no request can succeed until that is mended."""


class DataError(EditR1Error):
    """A task list, or a file it names, is invalid."""


class CheckpointError(EditR1Error):
    """A checkpoint is missing, damaged, or belongs to another run."""


class ImageError(EditR1Error):
    """Bytes that are not an accepted image.

    Attributes:
        code: `invalid_image` (cannot be decoded), `unsupported_image_type` (format not accepted),
            or `image_too_large` (bytes, pixels or side ratio over a limit).

    """

    def __init__(self, code: ImageErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ImageErrorCode = code


class JudgeError(EditR1Error):
    """The reward service's model cannot do what it should; `code` is the error code clients see."""

    code: ClassVar[str] = "judge_error"


class UnsuitableModelError(JudgeError):
    """The model cannot serve as a judge; detected at start-up, before any wrong score is returned."""

    code = "unsuitable_model"


class UnparsableAnswerError(JudgeError):
    """The judge answered, but its answer contains no score."""

    code = "unparsable_answer"


class NotComparableError(JudgeError):
    """A method compares the candidates of a group, and no other candidate is left to compare this one with."""

    code: ClassVar[str] = "not_comparable"


class MeasureError(JudgeError):
    """A measure, which asks no judge, has no score for this candidate."""

    code = "not_measurable"


class EngineError(JudgeError):
    """The engine failed on one candidate."""

    code = "engine_error"


class EngineUnavailableError(EngineError):
    """The engine cannot answer anything at present; the whole request should be repeated later."""

    code = "engine_unavailable"


class EngineAccountError(EngineUnavailableError):
    """The API that the engine uses refuses the account: key, credit or quota."""

    code = "account_refused"


class EngineDiedError(EngineUnavailableError):
    """The engine cannot answer any more; the process must exit so that a supervisor can restart it."""

    code = "engine_died"


class EndpointError(EditR1Error):
    """A chat endpoint used by `edit-r1 evaluate` or `edit-r1 data` did not deliver an answer."""


class EndpointUnavailable(EndpointError):  # noqa: N818 - the state is the name
    """The endpoint was unreachable or too busy until the time limit."""


class EndpointRefused(EndpointError):  # noqa: N818 - the event is the name
    """The endpoint rejects this question; retrying would not help, but other questions may work."""


class EndpointFailed(EndpointError):  # noqa: N818 - the event is the name
    """The endpoint failed on this question, or returned something that is not a chat completion."""


class RewardServiceError(EditR1Error):
    """The reward service could not provide scores."""


class RewardServiceUnavailable(RewardServiceError):  # noqa: N818 - the state is the name
    """The service was unreachable, not ready, or too busy until the time limit."""


class RewardRequestRejected(RewardServiceError):  # noqa: N818 - the event is the name
    """The service rejected the request; retrying would not help.

    Attributes:
        problem: the service's RFC 9457 response, with its `status`, `code` and `detail`.

    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"reward service answered {problem.status} {problem.code}: {problem.detail}")
        self.problem = problem


def suggest(name: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown name: the closest known name, or else all known names."""
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"


def fault_line(fault: ErrorDetails, whole: str = "(whole)") -> str:
    """One pydantic validation error as `field: message`; `whole` replaces the field if it concerns no single one."""
    where = ".".join(map(str, fault["loc"])) or whole
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
