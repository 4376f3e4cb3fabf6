"""What the check needs to be installed, and the commands that bring missing packages to a machine without network.

Uses only the standard library: it must run where nothing is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

TOO_LARGE = ("torch", "torchvision")
"""Gigabytes with CUDA: a GPU machine is expected to have them, in a version of its own."""
NEEDED = (
    "absl-py",
    "accelerate",
    "annotated-doc",
    "annotated-types",
    "anyio",
    "braceexpand",
    "certifi",
    "charset-normalizer",
    "click",
    "datasets",
    "diffusers",
    "dill",
    "fastapi",
    "filelock",
    "fsspec",
    "grpcio",
    "h11",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "huggingface-hub",
    "idna",
    "importlib-metadata",
    "jaxtyping",
    "jinja2",
    "json-repair",
    "lazy-importer",
    "markdown",
    "markdown-it-py",
    "markupsafe",
    "mdurl",
    "multiprocess",
    "numpy",
    "packaging",
    "pandas",
    "peft",
    "pillow",
    "prometheus-client",
    "protobuf",
    "psutil",
    "pyarrow",
    "pydantic",
    "pydantic-core",
    "pydantic-settings",
    "pygments",
    "python-dateutil",
    "python-dotenv",
    "python-multipart",
    "pyyaml",
    "regex",
    "requests",
    "rich",
    "safetensors",
    "setuptools",
    "shellingham",
    "stamina",
    "starlette",
    "structlog",
    "tenacity",
    "tensorboard",
    "tensorboard-data-server",
    "tokenizers",
    "tqdm",
    "transformers",
    "truststore",
    "typer",
    "typing-extensions",
    "typing-inspection",
    "tzdata",
    "urllib3",
    "uvicorn",
    "wadler-lindig",
    "werkzeug",
    "xxhash",
    "zipp",
)
"""The base dependencies and those of the extras `service` and `trainer` with their own, except TOO_LARGE."""
CONSTRAINTS = Path("constraints.txt")


def missing(names: Sequence[str] = (*TOO_LARGE, *NEEDED)) -> list[str]:
    """Those of the packages that are not installed, in any version."""
    return [name for name in names if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def commands(absent: Sequence[str], constraints: Path = CONSTRAINTS) -> list[str]:
    """The commands that bring missing packages: the first where there is a network, the second on the machine.

    Without dependencies: pip would otherwise also bring torch and replace what the machine has.
    """
    carried = [name for name in absent if name not in TOO_LARGE]
    if not carried:
        return []
    pins = dict(line.split("==") for line in constraints.read_text(encoding="utf-8").split() if "==" in line)
    wheels = " ".join(f"{name}=={pins[name]}" if name in pins else name for name in carried)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [
        f"python3 -m pip download --no-deps --only-binary=:all: --python-version {version} "
        f"--platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --dest wheels {wheels}",
        "python3 -m pip install --no-index --no-deps wheels/*.whl",
    ]
