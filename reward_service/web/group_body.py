"""HTTP request -> `EditGroup`, as multipart or JSON; every limit is enforced while reading."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from edit_r1.reward_service.problems import ProblemError, too_large, validation_problem
from edit_r1.shared.errors import suggest
from edit_r1.shared.schemas import EditGroup, JsonScoreRequest, Limits, ScoreOptions

_FILES = {"source": "sources", "candidates": "candidates"}
_MASK = "mask"
_FILE_NAMES = (*_FILES, _MASK)
_TEXTS = frozenset(ScoreOptions.model_fields)


async def read_group(request: Request, limits: Limits) -> EditGroup:
    """The group in a request.

    Raises:
        ProblemError: 400 malformed, 413 over a limit, 415 wrong content type, 422 invalid field.

    """
    content_type = content_type_of(request)
    try:
        if content_type == "multipart/form-data":
            group = await _from_form(request, limits)
        elif content_type == "application/json":
            group = await _from_json(request)
        else:
            raise wrong_content_type(content_type)
    except ValidationError as error:
        raise validation_problem(error.errors()) from error
    check_group(group, limits)
    return group


def content_type_of(request: Request) -> str:
    """The request's media type, in lower case and without parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def wrong_content_type(found: str, accepted: str = "multipart/form-data or application/json") -> ProblemError:
    """415 that names what is accepted."""
    detail = f"content type {found or '(none)'!r}; send {accepted}"
    return ProblemError(415, "unsupported_media_type", detail)


def require_json(request: Request) -> None:
    """Raise ProblemError 415 unless the body is announced as JSON."""
    if (found := content_type_of(request)) != "application/json":
        raise wrong_content_type(found, "application/json")


async def read_json(request: Request) -> Any:
    """The body's JSON value. Raises ProblemError 400."""
    body = await request.body()
    try:
        # Off the event loop: megabytes of base64 take a while.
        return await asyncio.to_thread(json.loads, body)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(400, "malformed_json", f"the body is not JSON: {error}") from error


@asynccontextmanager
async def read_form(request: Request, limits: Limits, max_files: int, max_text_bytes: int) -> AsyncIterator[FormData]:
    """The parts of a multipart body; files are closed on exit. Raises ProblemError 400 or 413."""
    try:
        form = await request.form(max_files=max_files, max_fields=64, max_part_size=max_text_bytes)
    except HTTPException as error:
        raise _form_problem(str(error.detail), limits) from error
    try:
        yield form
    finally:
        await form.close()


async def _from_json(request: Request) -> EditGroup:
    body = await read_json(request)
    return await asyncio.to_thread(lambda: JsonScoreRequest.model_validate(body).to_group())


async def _from_form(request: Request, limits: Limits) -> EditGroup:
    max_files = limits.max_candidates + limits.max_sources + 1  # the mask
    async with read_form(request, limits, max_files, limits.max_text_chars * 4) as form:
        files, texts = await _sort_parts(form)
    for name, inner in _FILES.items():
        if not files[inner]:
            raise ProblemError(422, "invalid_field", f"{name}: at least one file is required")
    mask = files.pop(_MASK, [None])
    if len(mask) > 1:
        raise ProblemError(422, "invalid_field", f"{_MASK}: given more than once")
    return EditGroup.model_validate({"instruction": "", "mask": mask[0], **texts, **files})


async def _sort_parts(form: FormData) -> tuple[dict[str, list[bytes | None]], dict[str, str]]:
    """Images by their internal field name, and the non-empty texts."""
    files: dict[str, list[bytes | None]] = defaultdict(list)
    texts: dict[str, str] = {}
    for name, value in form.multi_items():
        _check_part(name, value, texts)
        if isinstance(value, UploadFile):
            files[_FILES.get(name, name)].append(await value.read())
        elif value:  # browsers send an empty field for "not filled in"
            texts[name] = value
    return files, texts


def _form_problem(detail: str, limits: Limits) -> ProblemError:
    """The problem for Starlette's error, which names the exceeded limit only in its message."""
    if "Too many files" in detail:
        allowed = f"{limits.max_candidates} (max_candidates) plus {limits.max_sources} (max_sources)"
        return ProblemError(413, "too_many_candidates", f"too many files; the limit is {allowed}")
    if "Too many fields" in detail or "exceeded maximum size" in detail:
        return ProblemError(
            413, "too_large", f"form: {detail}; the limit is {limits.max_text_chars:,} characters of text"
        )
    return ProblemError(400, "malformed_form", f"the body is not a multipart form: {detail}")


def _check_part(name: str, value: str | UploadFile, seen: Mapping[str, str]) -> None:
    """Reject unknown names, repeated texts, and files in place of texts or the reverse."""
    if name not in _FILE_NAMES and name not in _TEXTS:
        known = sorted([*_FILE_NAMES, *_TEXTS])
        raise ProblemError(422, "unknown_field", f"{name}: unknown field; {suggest(name, known)}")
    if isinstance(value, UploadFile) != (name in _FILE_NAMES):
        kind = "a file" if name in _FILE_NAMES else "text, not a file"
        raise ProblemError(422, "invalid_field", f"{name}: must be {kind}")
    if name in seen:
        raise ProblemError(422, "invalid_field", f"{name}: given more than once")


def check_group(group: EditGroup, limits: Limits) -> None:
    """Raise ProblemError 413 or 422 if a group is over a limit; names the limit."""
    if len(group.candidates) > limits.max_candidates:
        found, limit = f"{len(group.candidates):,}", f"{limits.max_candidates} (max_candidates)"
        raise ProblemError(413, "too_many_candidates", f"candidates: {found}; the limit is {limit}")
    if len(group.sources) > limits.max_sources:
        raise too_large("source", f"{len(group.sources)} images", f"{limits.max_sources} (max_sources)")
    for name in ("instruction", "requirement", "expected_text"):
        text = getattr(group, name) or ""
        if len(text) > limits.max_text_chars:
            limit = f"{limits.max_text_chars:,} (max_text_chars)"
            raise ProblemError(422, "invalid_field", f"{name}: {len(text):,} characters; the limit is {limit}")
