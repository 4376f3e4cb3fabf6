"""Runs each image through the vision encoder once, however many conversations contain it.

The candidates of a group share their source, a verifier's principles share both images, and passes share everything.
Qwen-VL models call `get_image_features` for the image of every placeholder; here only new images are encoded, and the
most recent features are cached.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

_CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class _Features:
    """One image's features, as the language model gets them."""

    pooled: torch.Tensor
    """[visual tokens, hidden]"""
    layers: tuple[torch.Tensor, ...]
    """The same for inner layers (Qwen3-VL); empty for models that use none."""

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.pooled, *self.layers))


class EveryPicture:
    """For families whose images are encoded together with the text: only counts them."""

    def __init__(self) -> None:
        self.num_seen, self.num_new = 0, 0
        """Numbers of images found in a cache, which is none, and of images encoded."""

    @contextmanager
    def shown(self, digests: Sequence[str]) -> Iterator[None]:
        """Inside, these images are encoded."""
        self.num_new += len(digests)
        yield


class SeenPictures:
    """Replaces a model's `get_image_features`; used by one thread at a time."""

    def __init__(self, model: Any) -> None:
        self._look = model.model.get_image_features
        model.model.get_image_features = self._features
        self._answer_type: type[Any] = dict  # set after the first call
        self._shown: Sequence[str] = ()
        self._seen: OrderedDict[str, _Features] = OrderedDict()
        self._num_bytes = 0
        self.num_seen, self.num_new = 0, 0
        """Numbers of images found in the cache, and of images encoded."""

    @contextmanager
    def shown(self, digests: Sequence[str]) -> Iterator[None]:
        """Inside, placeholder i is image `digests[i]`; the pixel values contain each distinct image once, in order."""
        self._shown = digests
        try:
            yield
        finally:
            self._shown = ()
            self._forget_oldest()

    def _features(self, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor, **options: Any) -> Any:
        """Features per placeholder; `image_grid_thw` is [placeholders, 3]."""
        pictures = list(dict.fromkeys(self._shown))
        grids = image_grid_thw[[self._shown.index(digest) for digest in pictures]]
        new = [i for i, digest in enumerate(pictures) if digest not in self._seen]
        self.num_new += len(new)
        self.num_seen += len(self._shown) - len(new)
        if new:
            patches = torch.split(pixel_values, grids.prod(-1).tolist())
            found = self._look(torch.cat([patches[i] for i in new]), grids[new], **options)
            self._answer_type = type(found)
            layers = getattr(found, "deepstack_features", None) or []
            for position, i in enumerate(new):
                self._remember(pictures[i], found.pooler_output[position], [layer[position] for layer in layers])
        return self._dealt()

    def _dealt(self) -> Any:
        """The cached features in the model's own output type, one entry per placeholder."""
        dealt = [self._seen[digest] for digest in self._shown]
        for digest in self._shown:
            self._seen.move_to_end(digest)
        answer = self._answer_type(pooler_output=tuple(one.pooled for one in dealt))
        if dealt[0].layers:
            answer.deepstack_features = [tuple(each) for each in zip(*(one.layers for one in dealt), strict=True)]
        return answer

    def _remember(self, digest: str, pooled: torch.Tensor, layers: Sequence[torch.Tensor]) -> None:
        # Clone: a slice would keep its whole batch alive.
        features = _Features(pooled.clone(), tuple(layer.clone() for layer in layers))
        self._seen[digest] = features
        self._num_bytes += features.num_bytes

    def _forget_oldest(self) -> None:
        while self._num_bytes > _CACHE_BYTES:
            _, oldest = self._seen.popitem(last=False)
            self._num_bytes -= oldest.num_bytes
