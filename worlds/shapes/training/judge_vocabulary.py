"""Makes words that the tiny judge has never seen learnable by adapters, by changing their embeddings.

Training pushed the embeddings of all words that the judge neither reads nor writes in one direction, away from its
answers, so they are nearly identical. No adapter of its blocks can tell them apart, because its output uses the same
embeddings. Here each gets its own component in directions that the judge's answers hardly use, so its scores do not
change. Legend: D width of the judge.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from edit_r1.reward_service.methods import METHODS
from edit_r1.worlds.shapes.training.judge_data import Example
from edit_r1.worlds.shapes.training.judge_model import Prompts, grid, pad_left, patches
from edit_r1.worlds.shapes.training.judge_words import REASONING_START, SCORE_MARKER, read_scene, reasoning
from edit_r1.worlds.shapes.world.scenes import render

_NO_REQUIREMENT = "None"
_METHODS = ("score_logit", "yes_no_logit", "score_logit_cot")
_ANSWER_TOKENS = 16
"""Maximum number of tokens of an answer with reasoning, up to its score."""
_FREE_DIRECTIONS = 32
"""Number of directions that answers use least: together a thousandth of their energy."""
_LENGTH = 3.0
"""Length of the new components, compared with 1 to 2.4 for embeddings."""


def make_room(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    examples: Sequence[Example],
    *,
    tokens: Collection[int],
    requirements: Sequence[str],
    generator: torch.Generator,
) -> list[int]:
    """Change the embeddings of those `tokens` that the judge has never seen, in place; returns them.

    examples: edits it was trained on; their questions and answers determine which directions are in use.
    requirements: the task prompts it was trained with.
    """
    prompts = Prompts(processor)
    asked = _conversations(prompts, examples, requirements)
    labels = {label for name in _METHODS for label in METHODS[name].labels}
    met = {token for ids in asked for token in ids} | {token for label in labels for token in prompts.encode(label)}
    new = sorted({*tokens} - met)
    directions = _free_directions(_answer_states(model, processor, asked[: len(_METHODS) * len(examples)], examples))
    parts = torch.randn(len(new), _FREE_DIRECTIONS, generator=generator)
    parts = _LENGTH * parts / parts.norm(dim=1, keepdim=True)
    with torch.no_grad():
        model.get_input_embeddings().weight[new] += parts @ directions.T
    return new


def _conversations(prompts: Prompts, examples: Sequence[Example], requirements: Sequence[str]) -> list[list[int]]:
    """Questions for every method and example, with answers for those with reasoning; then each requirement once."""
    asked = []
    for method in _METHODS:
        for example in examples:
            ids = prompts.token_ids(method, example.task.instruction, _NO_REQUIREMENT)
            if method == "score_logit_cot":
                said = reasoning(example.task, read_scene(example.edited))
                ids += prompts.encode(f'{REASONING_START}{said}", {SCORE_MARKER}')
            asked.append(ids)
    return asked + [prompts.token_ids(_METHODS[0], "", requirement) for requirement in requirements]


@torch.no_grad()
def _answer_states(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    asked: Sequence[list[int]],
    examples: Sequence[Example],
) -> Tensor:
    """Normalised last hidden states from which answers are read, [N, D]."""
    sources = patches(processor, [render(example.task.source) for example in examples])
    edits = patches(processor, [example.edited for example in examples])
    both = torch.stack([sources, edits], dim=1).flatten(0, 2)
    image_id, pad_id = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>"), processor.tokenizer.pad_token_id
    states = []
    for index, method in enumerate(_METHODS):
        ids, mask = pad_left(asked[index * len(examples) : (index + 1) * len(examples)], pad_id)
        output = model(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=both,
            image_grid_thw=grid(2 * len(examples)),
            mm_token_type_ids=(ids == image_id).int(),
            output_hidden_states=True,
        )
        answered = _ANSWER_TOKENS if method == "score_logit_cot" else 1
        states.append(output.hidden_states[-1][:, -answered:].flatten(0, 1))
    return torch.cat(states)


def _free_directions(states: Tensor) -> Tensor:
    """Orthonormal directions that the states use least, [D, _FREE_DIRECTIONS]."""
    directions: Tensor = torch.linalg.eigh(states.T @ states).eigenvectors
    return directions[:, :_FREE_DIRECTIONS]
