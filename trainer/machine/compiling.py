"""torch.compile for the repeated blocks of a transformer (regional compilation).

All blocks of one class share their compiled variants. A variant is compiled for each combination of what torch.compile
guards on; the policies' forward passes differ in few of these (see `LoraPolicy.use`), and inputs are brought into one
form here, so that the variants stay below torch's limit. Beyond it, torch would silently run without compiling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._dynamo.utils import counters
from torch.utils._pytree import tree_leaves, tree_map_only

LIMIT = 16
"""Maximum number of variants per class of blocks; torch's own default is 8. Training needs up to 4: with adapters,
without them, with gradient, and with a gradient for the inputs, too. There may be as many for single rows, and twice
all of these where images differ in size."""


class CompiledBlocks:
    """The compiled blocks of one transformer."""

    def __init__(self, transformer: nn.Module, backend: str, tell: Callable[[str], None]) -> None:
        """Compile every block whose class diffusers lists as repeated, lazily at its first forward pass.

        tell: called once for each class of blocks that has reached the limit. Raises ValueError when there is no such
        block.
        """
        names = {*(getattr(transformer, "_repeated_blocks", None) or ())}
        self._tell, self._told, self._counted = tell, set[str](), _num_graphs()
        found = [(block, name) for block in transformer.modules() if (name := _class_name(block, names))]
        if not found:
            raise ValueError(f"{type(transformer).__name__} has no repeated blocks that could be compiled")
        torch._dynamo.config.recompile_limit = LIMIT
        for block, name in found:
            block.forward = self._guarded(
                name, block.forward, torch.compile(block.forward, backend=backend, fullgraph=True)
            )

    @property
    def uncompiled(self) -> frozenset[str]:
        """Classes of blocks that have reached the limit: what is not compiled for them yet runs uncompiled."""
        return frozenset(self._told)

    def num_new_graphs(self) -> int:
        """Number of variants compiled since the last call."""
        before, self._counted = self._counted, _num_graphs()
        return self._counted - before

    def _guarded(self, name: str, plain: Callable[..., Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = in_one_form((args, kwargs))
            try:
                return compiled(*args, **kwargs)
            except FailOnRecompileLimitHit:
                if name not in self._told:
                    self._told.add(name)
                    self._tell(
                        f"WARNING: {name} has been compiled for {LIMIT} kinds of inputs, the maximum; others run "
                        f"uncompiled from now on (model.compile)"
                    )
                return plain(*args, **kwargs)

        return forward


def in_one_form(inputs: Any) -> Any:
    """A block's inputs without views, their first dimension marked as variable.

    Otherwise there would be more variants: for views, such as the slices that some blocks return, because their strides
    and bases are guarded on, and for every number of rows. Marking a tensor whose first dimension is not the rows, such
    as the positions' rotations, changes nothing: its size is tied to that of other inputs.
    """
    inputs = tree_map_only(Tensor, _own, inputs)
    for leaf in tree_leaves(inputs):
        if isinstance(leaf, Tensor) and leaf.ndim > 0:
            torch._dynamo.maybe_mark_dynamic(leaf, 0)
    return inputs


def _own(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format) if tensor._is_view() else tensor


def _class_name(block: nn.Module, names: set[str]) -> str | None:
    """The repeated class that a block is of; sharding derives a class from it."""
    return next((one.__name__ for one in type(block).__mro__ if one.__name__ in names), None)


def _num_graphs() -> int:
    return int(counters["stats"]["unique_graphs"])
