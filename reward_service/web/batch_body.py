"""HTTP request -> several groups: the body of POST /v1/score/batch, as JSON or multipart.

JSON: `{"groups": [<body of /v1/score>, ...]}`. Multipart: a text part `groups` contains the same list with the names of
file parts in place of images; groups may share a file. A group that cannot be read yields a problem in its place while
the others are scored; a body that cannot be read is rejected as a whole.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from edit_r1.reward_service.problems import ProblemError, too_large, validation_problem
from edit_r1.reward_service.web.group_body import check_group, content_type_of, read_form, read_json, wrong_content_type
from edit_r1.shared.schemas import BatchGroup, EditGroup, JsonScoreRequest, Limits

GroupOrProblem = EditGroup | ProblemError


async def read_batch(request: Request, limits: Limits) -> list[GroupOrProblem]:
    """The groups of a request, in order; an invalid group is returned as its problem.

    Raises:
        ProblemError: the body as a whole is malformed, over a limit, or has a wrong content type.

    """
    content_type = content_type_of(request)
    if content_type == "application/json":
        listed = _listed(await read_json(request), limits)
        # Off the event loop: megabytes of base64 take a while.
        return await asyncio.to_thread(lambda: [group_or_problem(partial(_from_json, one), limits) for one in listed])
    if content_type == "multipart/form-data":
        files, text = await _read_parts(request, limits)
        listed = _listed({"groups": _parsed(text)}, limits)
        return [group_or_problem(partial(_from_names, one, files), limits) for one in listed]
    raise wrong_content_type(content_type)


def group_or_problem(read: Callable[[], EditGroup], limits: Limits) -> GroupOrProblem:
    """One group read by `read`, or its problem if it is invalid or over a limit."""
    try:
        group = read()
        check_group(group, limits)
    except ValidationError as error:
        return validation_problem(error.errors())
    except ProblemError as error:
        return error
    return group


def _from_json(item: Any) -> EditGroup:
    return JsonScoreRequest.model_validate(item).to_group()


def _from_names(item: Any, files: Mapping[str, bytes]) -> EditGroup:
    """A group from a form, with its files filled in. Raises ProblemError for an unknown file name."""
    group = BatchGroup.model_validate(item)
    for name in (*group.source, *group.candidates, *([group.mask] if group.mask else [])):
        if name not in files:
            raise ProblemError(
                422, "invalid_field", f"no file part named {name!r}; found: {', '.join(files) or 'none'}"
            )
    return group.to_group(files)


async def _read_parts(request: Request, limits: Limits) -> tuple[dict[str, bytes], str]:
    """The files by name, and the text of the part `groups`."""
    files: dict[str, bytes] = {}
    text = None
    max_files = limits.max_groups * (limits.max_candidates + limits.max_sources + 1)
    async with read_form(request, limits, max_files, limits.max_groups * limits.max_text_chars * 4) as form:
        for name, value in form.multi_items():
            if name in files or (name == "groups" and text is not None):
                raise ProblemError(422, "invalid_field", f"{name}: given more than once")
            if isinstance(value, UploadFile) and name != "groups":
                files[name] = await value.read()
            elif name == "groups":
                text = value if isinstance(value, str) else (await value.read()).decode(errors="replace")
            else:
                raise ProblemError(422, "unknown_field", f"{name}: expected a file, or the text part `groups`")
    if text is None:
        raise ProblemError(422, "invalid_field", "groups: the part is missing")
    return files, text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ProblemError(400, "malformed_json", f"groups: not JSON: {error}") from error


def _listed(body: Any, limits: Limits) -> list[Any]:
    """The list under `groups`, checked against its limit."""
    listed = body.get("groups") if isinstance(body, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ProblemError(422, "invalid_field", "groups: expected a list of at least one group")
    if len(listed) > limits.max_groups:
        raise too_large("groups", f"{len(listed):,}", f"{limits.max_groups} (max_groups)")
    return listed
