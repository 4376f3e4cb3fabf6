"""The transformers engine: any vision-language checkpoint, on CPU or GPU, with batched forward passes.

Qwen-VL models encode each image once for all conversations that contain it. Other families get text and images through
their own processor and `generate`.

One thread gathers waiting conversations and prepares their inputs while another runs the model, so batches form
naturally under load. A batch that fails is split in half and retried, so that one bad conversation fails alone.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import structlog
import torch
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from transformers import GenerationConfig, LogitsProcessorList

from edit_r1.reward_service.engines.base import EngineOptions
from edit_r1.reward_service.engines.batches import BatchBuilder, ModelInputs
from edit_r1.reward_service.engines.checkpoint import Checkpoint, load_chat, load_weights, read_config
from edit_r1.reward_service.engines.processor_batches import ProcessorBatchBuilder
from edit_r1.reward_service.engines.resolution import choose_resolution
from edit_r1.reward_service.engines.sampling import SeededSampler
from edit_r1.reward_service.engines.vision import EveryPicture, SeenPictures
from edit_r1.reward_service.types import Answer, Messages, SamplingSpec
from edit_r1.shared.errors import ConfigError, EngineDiedError, EngineError

log = structlog.get_logger(__name__)

_GATHER_SECONDS = 0.001
"""How long to wait for more conversations after the first one of a batch when the model is idle."""

_CPU_BATCH_TOKENS = 4096
"""Tokens per forward pass on a CPU: more exceed its caches, and each candidate takes longer (BENCHMARKS.md)."""


@dataclass(frozen=True)
class _Job:
    """One conversation waiting for its answer."""

    messages: Messages
    spec: SamplingSpec
    answer: Future[Answer]
    arrived: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Batch:
    """Conversations ready for one model run."""

    jobs: list[_Job]
    inputs: ModelInputs
    started: float


class TransformersEngine:
    """A judge run by transformers. See `Engine` for the meaning of the methods."""

    name = "transformers"

    def __init__(self, checkpoint: Checkpoint, options: EngineOptions) -> None:
        model = checkpoint.model
        self.chat = checkpoint.chat
        self.adapters = frozenset(options.adapters)
        self._checkpoint = checkpoint
        self._model = model
        self._max_batch = options.max_batch
        self.max_model_len = options.max_model_len or checkpoint.max_tokens
        self._pictures, self._builder = self._input_side(options)
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._prepared: queue.Queue[_Batch | None] = queue.Queue(maxsize=1)
        self._batch_tokens = _CPU_BATCH_TOKENS if model.device.type == "cpu" else None
        self._closed = False
        self._closing = threading.Lock()
        self._broken: str | None = None
        self._num_answers = 0
        self._threads = [
            threading.Thread(target=target, name=f"judge-{target.__name__.strip('_')}", daemon=True)
            for target in (self._prepare_loop, self._run_loop)
        ]
        for thread in self._threads:
            thread.start()

    @classmethod
    def load(cls, options: EngineOptions) -> TransformersEngine:
        """Load the checkpoint and its adapters; blocks.

        Raises:
            ConfigError: an option that the model cannot have.
            UnsuitableModelError: the model cannot be a judge.

        """
        trust = options.trust_remote_code
        config = read_config(options.model, trust_remote_code=trust)
        _check_length(options.max_model_len, config)
        chat = load_chat(options.model, trust_remote_code=trust)
        choose_resolution(chat.processor.image_processor, options.min_judge_pixels, options.max_judge_pixels)
        checkpoint = load_weights(chat, options.dtype, trust_remote_code=trust)
        model = checkpoint.model
        # Loading several adapters is intended, but each load warns about the others and reports their weights missing.
        logging.getLogger("transformers.integrations.peft").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            for name, directory in options.adapters.items():
                model.load_adapter(str(directory), adapter_name=name)
        model.requires_grad_(False)
        return cls(checkpoint, options)

    def _input_side(
        self, options: EngineOptions
    ) -> tuple[SeenPictures | EveryPicture, BatchBuilder | ProcessorBatchBuilder]:
        """Vision cache and batch builder for this family."""
        model, chat = self._model, self.chat
        images = chat.processor.image_processor
        resolution = choose_resolution(images, options.min_judge_pixels, options.max_judge_pixels)
        if self._checkpoint.is_qwen_vl:
            return SeenPictures(model), BatchBuilder(chat, model.device, self.max_model_len, resolution)
        return EveryPicture(), ProcessorBatchBuilder(chat, model.device, model.dtype, self.max_model_len, resolution)

    async def generate(self, messages: Messages, spec: SamplingSpec) -> Answer:
        """Answer one conversation. Raises EngineError."""
        if self._broken:
            raise EngineDiedError(self._broken)
        job = _Job(messages, spec, Future())
        with self._closing:  # nothing may be queued after the end marker: it would never be answered
            if self._closed:
                raise EngineError("the engine is shut down")
            self._waiting.put(job)
        return await asyncio.wrap_future(job.answer)

    def healthy(self) -> bool:
        """Whether both threads are running."""
        return not (self._closed or self._broken) and all(thread.is_alive() for thread in self._threads)

    def metrics(self) -> Iterable[Metric]:
        """Number of answers, images by cache hit or miss, and waiting conversations."""
        pictures = CounterMetricFamily("reward_engine_pictures", "Images in conversations.", labels=["cache"])
        pictures.add_metric(["hit"], self._pictures.num_seen)
        pictures.add_metric(["miss"], self._pictures.num_new)
        answers = CounterMetricFamily("reward_engine_answers", "Conversations answered.", self._num_answers)
        waiting = GaugeMetricFamily("reward_engine_waiting", "Conversations waiting.", self._waiting.qsize())
        return [pictures, answers, waiting]

    def close(self) -> None:
        """Answer waiting conversations, then stop the threads."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    # Thread one: gather and prepare.

    def _prepare_loop(self) -> None:
        while (first := self._waiting.get()) is not None:
            jobs, ended = self._gather(first)
            # From here on a job counts as running and is no longer cancelled when its caller goes away.
            kept = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            for alike in _alike(kept):
                self._prepare(alike, self._prepared.put)
            if ended:
                break
        self._prepared.put(None)

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """Up to one batch of waiting jobs, and whether the engine was asked to stop meanwhile."""
        jobs = [first]
        deadline = time.monotonic() + _GATHER_SECONDS
        while len(jobs) < self._max_batch:
            try:
                job = self._waiting.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _prepare(self, jobs: list[_Job], then: Callable[[_Batch], None]) -> None:
        """Build the inputs of these jobs and pass them on; jobs whose inputs cannot be built fail with the error."""
        started = time.monotonic()
        try:
            found = self._builder.batches(
                [job.messages for job in jobs], [job.spec.prefix_ids for job in jobs], self._batch_tokens
            )
            batches = [_Batch([jobs[i] for i in numbers], inputs, started) for numbers, inputs in found]
        except Exception as error:
            for half in _halves(jobs, error):
                self._prepare(half, then)
        else:
            for batch in batches:
                then(batch)

    # Thread two: run the model.

    def _run_loop(self) -> None:
        while (batch := self._prepared.get()) is not None:
            self._run(batch)

    def _run(self, batch: _Batch) -> None:
        if self._broken:
            _tell(batch.jobs, EngineDiedError(self._broken))
            return
        try:
            answers = self._answer(batch)
        except torch.AcceleratorError as error:
            # The device context is lost: everything that runs on it from now on fails, too.
            log.error("the device failed", exc_info=error)
            self._broken = f"the device failed: {error}"
            _tell(batch.jobs, EngineDiedError(self._broken))
            return
        except Exception as error:
            for half in _halves(batch.jobs, error):
                self._prepare(half, self._run)
            return
        for job, answer in zip(batch.jobs, answers, strict=True):
            job.answer.set_result(answer)
        self._num_answers += len(answers)

    @torch.inference_mode()
    def _answer(self, batch: _Batch) -> list[Answer]:
        specs = [job.spec for job in batch.jobs]
        labels = tuple(dict.fromkeys(label for spec in specs for label in spec.labels))
        label_ids = torch.tensor(self.chat.label_ids(labels), dtype=torch.long, device=self._model.device)
        sampler = SeededSampler(specs, label_ids)
        adapter = specs[0].adapter
        # An adapter may change the vision encoder, too, so features are cached per adapter.
        shown = [f"{adapter or ''}:{digest}" for digest in batch.inputs.shown]
        self._switch_to(adapter)
        with self._pictures.shown(shown):
            # Other families than Qwen-VL compute positions from the padding in `generate` only.
            if specs[0].max_tokens == 1 and self._checkpoint.is_qwen_vl:
                logits = self._model(**batch.inputs.arguments, logits_to_keep=1, use_cache=False).logits[:, -1]
                tokens = sampler.draw(logits)[:, None]
            else:
                tokens = self._generate(batch.inputs.arguments, specs[0].max_tokens, sampler)
        logprobs = sampler.label_logprobs() if labels else None
        return [
            self._read(row.tolist(), None if logprobs is None else logprobs[i], labels, batch, i)
            for i, row in enumerate(tokens)
        ]

    def _switch_to(self, adapter: str | None) -> None:
        """Use this adapter from now on; None: the unmodified base model."""
        if not self.adapters:
            return
        if adapter is None:
            self._model.disable_adapters()
        else:
            self._model.enable_adapters()
            self._model.set_adapter(adapter)

    def _generate(self, inputs: dict[str, Any], max_tokens: int, sampler: SeededSampler) -> torch.Tensor:
        """[B, T] new tokens, padded on the right after the end of a row."""
        prompt_tokens = inputs["input_ids"].shape[1]
        room = max(1, min(max_tokens, self.max_model_len - prompt_tokens))
        end_ids = self._checkpoint.end_ids
        config = GenerationConfig(
            max_new_tokens=room, do_sample=False, eos_token_id=list(end_ids), pad_token_id=end_ids[0]
        )
        output = self._model.generate(
            **inputs, generation_config=config, logits_processor=LogitsProcessorList([sampler])
        )
        tokens: torch.Tensor = output[:, prompt_tokens:]
        return tokens

    def _read(
        self, tokens: list[int], logprobs: torch.Tensor | None, labels: tuple[str, ...], batch: _Batch, row: int
    ) -> Answer:
        """One row's answer, cut after its first end token."""
        job = batch.jobs[row]
        kept, finished = self._checkpoint.until_end(tokens)
        wanted = [labels.index(label) for label in job.spec.labels]
        found = () if logprobs is None or not wanted else tuple(map(tuple, logprobs[: len(kept), wanted].tolist()))
        return Answer(
            text=self.chat.decode(kept),
            token_ids=tuple(kept),
            pieces=self.chat.pieces(kept),
            label_logprobs=found,
            finished=finished,
            queue_seconds=batch.started - job.arrived,
        )


def _check_length(wanted: int | None, config: Any) -> None:
    """Raise ConfigError if prompts would be longer than the model's position embeddings."""
    limit = config.get_text_config().max_position_embeddings
    if wanted is not None and wanted > limit:
        raise ConfigError(f"max_model_len: {wanted} is above the model's own limit of {limit} tokens")


def _alike(jobs: Iterable[_Job]) -> Iterable[list[_Job]]:
    """Group jobs that can share a run: the same number of tokens to generate and the same adapter."""
    groups: dict[tuple[int, str | None], list[_Job]] = {}
    for job in jobs:
        groups.setdefault((job.spec.max_tokens, job.spec.adapter), []).append(job)
    return groups.values()


def _halves(jobs: list[_Job], error: Exception) -> list[list[_Job]]:
    """The two halves of a failed batch, to be retried; a single job fails with the error instead."""
    if len(jobs) > 1:
        log.warning("batch failed, trying its halves", size=len(jobs), error=repr(error))
        middle = len(jobs) // 2
        return [jobs[:middle], jobs[middle:]]
    _tell(jobs, error if isinstance(error, EngineError) else EngineError(f"the engine failed: {error!r}"))
    return []


def _tell(jobs: Iterable[_Job], error: EngineError) -> None:
    for job in jobs:
        job.answer.set_exception(error)
