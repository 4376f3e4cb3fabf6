"""The scoring methods by name: one file each, and this dict."""

from __future__ import annotations

from reward_service.methods import (
    score_logit,
    score_logit_cot,
    score_sampling,
    score_sampling_cot,
    yes_no_logit,
)
from reward_service.methods.base import Method

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (score_logit, yes_no_logit, score_sampling, score_sampling_cot, score_logit_cot)
}
