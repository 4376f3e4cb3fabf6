"""Scores that are no answer of the judge: computed from the images, or by a model of their own. No HTTP, no engine.

base           what a measure is
"""

from __future__ import annotations

from collections.abc import Mapping

SHIPPED: Mapping[str, str] = {}
"""Name -> import path of the measures that we ship. A path is imported only when a setting names it."""
