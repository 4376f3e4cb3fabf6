"""Scores that are no answer of the judge: computed from the images, or by a model of their own. No HTTP, no engine.

base           what a measure is
packages       imports what only measures need
preservation   what should stay is the same as in the source
kept           the part of a similarity map that should stay; pure
lpips          LPIPS per pixel
text_edit_ocr  the picture shows the text that was asked for
quoted_text    the text in an instruction's quotation marks, and how close another comes to it; pure
reward_head    a vision-language model with a regression head
head_file      what such a checkpoint says about its head
head_weights   the head's layers
head_model     edits -> the head's outputs
"""

from __future__ import annotations

from collections.abc import Mapping

_HERE = "edit_r1.reward_service.measures"
SHIPPED: Mapping[str, str] = {
    "preservation": f"{_HERE}.preservation:Preservation",
    "reward_head": f"{_HERE}.reward_head:RewardHead",
    "text_edit_ocr": f"{_HERE}.text_edit_ocr:TextEditOcr",
}
"""Name -> import path of the measures that we ship. A path is imported only when a setting names it."""
