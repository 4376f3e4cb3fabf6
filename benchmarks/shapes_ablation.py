"""Which of the paper's findings hold on the shapes world? One change at a time from the demo's settings.

    python -m benchmarks.shapes_ablation [--seeds 0 1 2] [--epochs 30] [--only NAME ...] [--small-judge DIRECTORY]

Trains every variant with every seed, one after another, with `edit-r1 train` and running reward services. Finished runs
in --out are reused, so it can be stopped at any time. Prints the table of docs/studies.md and writes its curves to
docs/images/. The small judge has half the width of the larger one and the same recipe; it is trained by

    python -m edit_r1.worlds.shapes.training.train_judge --hidden 64 --out .cache/small_judge \
        --sparring ...   (CONTRIBUTING.md)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from edit_r1.trainer.records.metrics_log import read_metrics
from edit_r1.trainer.report.charts import Series, line_chart, standalone
from edit_r1.workbench import markdown
from edit_r1.worlds.shapes.demo import HERE, reward_service

CONFIG = HERE / "nft.yaml"
PICTURES = Path("docs/images")
HEADINGS = (
    "variant",
    "settings",
    "reward before",
    "after",
    "oracle success before",
    "after",
    "std within groups, first epoch",
    "last",
    "seconds per epoch",
)
GRPO = ("algorithm=flow_grpo", "filter.rule=none")


@dataclass(frozen=True)
class Variant:
    """One change from the demo's settings."""

    what: str
    overrides: tuple[str, ...] = ()
    small_judge: bool = False


VARIANTS: Mapping[str, Variant] = {
    "nft": Variant("DiffusionNFT, global std, filter on, logit of the larger judge"),
    "nft_local_std": Variant("per-group std instead of global", ("advantage.std=group",)),
    "nft_no_filter": Variant("no group filter", ("filter.rule=none",)),
    "nft_local_no_filter": Variant("per-group std, no group filter", ("advantage.std=group", "filter.rule=none")),
    "nft_sampled": Variant("number that the judge writes, instead of logit", ("reward.method=score_sampling",)),
    "nft_small_judge": Variant("logit of the small judge", small_judge=True),
    "grpo": Variant("Flow-GRPO, global std", GRPO),
    "grpo_local_std": Variant("Flow-GRPO, per-group std", (*GRPO, "advantage.std=group")),
}
CURVES: Sequence[tuple[str, str, str, tuple[str, ...]]] = (
    ("ablation-methods", "oracle success", "eval/oracle_success", ("nft", "grpo", "grpo_local_std")),
    (
        "ablation-normalisation",
        "oracle success",
        "eval/oracle_success",
        ("nft", "nft_no_filter", "nft_local_std", "nft_local_no_filter"),
    ),
    ("ablation-reward", "oracle success", "eval/oracle_success", ("nft", "nft_sampled", "nft_small_judge")),
    ("ablation-group-std", "std within groups", "reward/group_std", ("nft", "nft_sampled", "nft_small_judge")),
)
"""(file name, title, metric, variants) of each figure."""
Lines = list[dict[str, Any]]
Results = Mapping[str, Sequence[Lines]]
"""Variant -> for each seed, the lines of metrics.jsonl."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--small-judge", type=Path, default=Path(".cache/small_judge"))
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    arguments = parser.parse_args()
    chosen = {name: VARIANTS[name] for name in arguments.only}
    if any(variant.small_judge for variant in chosen.values()) and not arguments.small_judge.is_dir():
        parser.error(f"--small-judge {arguments.small_judge} does not exist; see --help for how to train it")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        urls = {
            small: stack.enter_context(reward_service(arguments.out / f"service-{small}.log", judge))
            for small, judge in ((False, HERE / "judge"), (True, arguments.small_judge))
            if any(variant.small_judge == small for variant in chosen.values())
        }
        for seed in arguments.seeds:
            for name, variant in chosen.items():
                run_dir = arguments.out / name / f"seed-{seed}"
                _train(run_dir, urls[variant.small_judge], variant, seed, arguments.epochs)
    results = {
        name: [read_metrics(arguments.out / name / f"seed-{seed}") for seed in arguments.seeds] for name in chosen
    }
    print(table(results))
    for picture, what, metric, names in CURVES:
        if drawn := [Series(name, curve(results[name], metric), marked=True) for name in names if name in results]:
            path = PICTURES / f"{picture}.svg"
            path.write_text(standalone(line_chart(drawn, "epoch"), what), encoding="utf-8")
            print(path, file=sys.stderr)
    return 0


def _train(run_dir: Path, url: str, variant: Variant, seed: int, epochs: int) -> None:
    if (run_dir / "summary.json").exists():
        return
    settings = (f"epochs={epochs}", f"seed={seed}", "evaluation.every=5", "checkpoint.every=0", f"run_dir={run_dir}")
    command = ("train", str(CONFIG), f"reward.url={url}", *settings, *variant.overrides)
    subprocess.run([sys.executable, "-m", "edit_r1", *command], stdout=sys.stderr, check=True)  # noqa: S603 - our own command


def table(results: Results) -> str:
    """One row per variant: means over the seeds, and the standard deviation over seeds of the oracle's success."""
    rows = []
    for name, seeds in results.items():
        reward, success, spread = (
            [_values(lines, metric) for lines in seeds]
            for metric in ("eval/reward", "eval/oracle_success", "reward/group_std")
        )
        seconds = mean(mean(_values(lines, "time/epoch_seconds")) for lines in seeds)
        cells = (
            _mean(reward, 0),
            _mean(reward, -1),
            _mean(success, 0),
            f"{_mean(success, -1)} ± {_deviation(success):.3f}",
            _mean(spread, 0),
            _mean(spread, -1),
            f"{seconds:.1f}",
        )
        rows.append((f"`{name}`", VARIANTS[name].what, *cells))
    return markdown.table(HEADINGS, rows)


def curve(seeds: Sequence[Lines], metric: str) -> tuple[tuple[float, float], ...]:
    """(epoch, mean over the seeds) of a metric."""
    by_epoch: dict[int, list[float]] = {}
    for lines in seeds:
        for line in lines:
            if line.get(metric) is not None:
                by_epoch.setdefault(line["epoch"], []).append(line[metric])
    return tuple((float(epoch), mean(values)) for epoch, values in sorted(by_epoch.items()))


def _values(lines: Lines, metric: str) -> list[float]:
    return [line[metric] for line in lines if line.get(metric) is not None]


def _mean(seeds: Sequence[Sequence[float]], index: int) -> str:
    return f"{mean(values[index] for values in seeds):.3f}"


def _deviation(seeds: Sequence[Sequence[float]]) -> float:
    last = [values[-1] for values in seeds]
    return stdev(last) if len(last) > 1 else 0.0


if __name__ == "__main__":
    sys.exit(main())
