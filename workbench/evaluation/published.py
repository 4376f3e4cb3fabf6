"""Published results, shown below our tables and used to test our aggregation.

The judge was GPT-4.1 as of the time of publication; it drifts by about 0.1 between months, so only rows from one
session are comparable.
"""

from __future__ import annotations

from dataclasses import dataclass

IMGEDIT_COLUMNS = ("add", "adjust", "extract", "replace", "remove", "background", "style", "compose", "action")
"""ImgEdit's task types in the order used by the papers."""
IMGEDIT_HEADINGS = ("Add", "Adjust", "Extract", "Replace", "Remove", "Background", "Style", "Hybrid", "Action")


@dataclass(frozen=True)
class ImgEditRow:
    """Nine types in the order of IMGEDIT_COLUMNS, and the published overall score."""

    types: tuple[float, ...]
    overall: float


@dataclass(frozen=True)
class GEditRow:
    """GEdit-Bench-EN, full set."""

    semantic: float
    quality: float
    overall: float


# Source: arXiv:2510.16888, its tables of both benchmarks.
IMGEDIT = {
    "FLUX.1-Kontext-dev": ImgEditRow((4.12, 3.80, 2.04, 4.22, 3.09, 3.97, 4.51, 3.35, 4.25), 3.71),
    "UniWorld-FLUX.1-Kontext": ImgEditRow((4.19, 4.20, 2.43, 4.32, 3.91, 4.08, 4.68, 3.72, 4.63), 4.02),
    "FLUX.1-Kontext-pro": ImgEditRow((4.25, 4.15, 2.35, 4.56, 3.57, 4.26, 4.57, 3.68, 4.63), 4.00),
    "GPT-Image-1": ImgEditRow((4.61, 4.33, 2.90, 4.35, 3.66, 4.57, 4.93, 3.96, 4.89), 4.20),
    "Qwen-Image-Edit": ImgEditRow((4.38, 4.16, 3.43, 4.66, 4.14, 4.38, 4.81, 3.82, 4.69), 4.27),
    "Qwen-Image-Edit-2509": ImgEditRow((4.32, 4.36, 4.04, 4.64, 4.52, 4.37, 4.84, 3.39, 4.71), 4.35),
    "UniWorld-Qwen-Image-Edit-2509": ImgEditRow((4.34, 4.40, 4.37, 4.62, 4.65, 4.31, 4.89, 3.90, 4.80), 4.48),
    "UniWorld-V2": ImgEditRow((4.29, 4.44, 4.32, 4.69, 4.72, 4.41, 4.91, 3.83, 4.83), 4.49),
}
INHERITED = ("GPT-Image-1",)
"""Rows whose overall is not the mean of the nine published values (4.24); copied from another source."""

GEDIT_EN = {
    "FLUX.1-Kontext-dev": GEditRow(6.52, 7.38, 6.00),
    "UniWorld-FLUX.1-Kontext": GEditRow(7.28, 7.49, 6.74),
    "FLUX.1-Kontext-pro": GEditRow(7.02, 7.60, 6.56),
    "GPT-Image-1": GEditRow(7.85, 7.62, 7.53),
    "Qwen-Image-Edit": GEditRow(8.00, 7.86, 7.56),
    "Qwen-Image-Edit-2509": GEditRow(8.15, 7.86, 7.54),
    "UniWorld-Qwen-Image-Edit-2509": GEditRow(8.36, 7.87, 7.76),
    "UniWorld-V2": GEditRow(8.39, 8.02, 7.83),
}
