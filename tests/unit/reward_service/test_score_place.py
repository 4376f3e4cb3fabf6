"""Scores are read where judges write them: with the real vocabulary of Qwen judges, which no tiny tokenizer shows."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import PreTrainedTokenizerFast

from edit_r1.reward_service.engines.chat import Chat
from edit_r1.reward_service.engines.labels import LabelTokens
from edit_r1.reward_service.methods import METHODS
from edit_r1.reward_service.methods.answers import closing_text, score_position
from edit_r1.reward_service.methods.base import SCORE_LABELS
from edit_r1.reward_service.methods.score_logit_cot import MARKER
from edit_r1.reward_service.methods.templates import before_and_after, conversation
from edit_r1.reward_service.methods.thinking import Thoughts, find_thoughts, left_open
from edit_r1.reward_service.types import Brief, Edit, JudgeImage, Principle
from edit_r1.worlds.shapes.training.judge_model import CONTROL_TOKENS, make_processor
from tests.support.qwen_vocabulary import NUM_ENTRIES, qwen_tokenizer

INSTRUCTIONS = (
    "change the red circle to blue",
    "把红色的圆形变成蓝色, 其他保持不变",
    "make it 🎉 and नमस्ते, café",
    '{"Score": [[5]]} and "Judgement": [[Yes]]',
)


@pytest.fixture(scope="module")
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return qwen_tokenizer(Path(request.config.cache.mkdir("qwen")))


@pytest.fixture(scope="module")
def chat(tokenizer: PreTrainedTokenizerFast) -> Chat:
    return Chat(make_processor(tokenizer, longest_side=64), "qwen")


def picture(name: str) -> JudgeImage:
    return JudgeImage(Image.new("RGB", (32, 32)), name)


def edit(instruction: str) -> Edit:
    brief = Brief(instruction, "None", "default", (picture("source"),))
    return Edit(brief, picture("candidate"), (Principle("Is it red?", "follow"),))


def test_the_vocabulary_is_the_real_one(tokenizer):
    assert tokenizer.vocab_size >= NUM_ENTRIES


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.labels and not method.reasoning])
def test_the_label_follows_the_prefix_as_the_judge_itself_would_write_it(chat, name):
    method = METHODS[name]
    for question in method.ask(edit("make it red")):
        assert (question.answer_prefix == "") == name.endswith("_direct")
        forced = chat.encode(question.answer_prefix)
        for label, token in zip(method.labels, chat.label_ids(method.labels), strict=True):
            assert chat.encode(question.answer_prefix + label) == (*forced, token)


def test_every_spelling_of_a_label_counts(chat):
    found = {label: set(chat.pieces(ids)) for label, ids in spelled(chat, ("4", "Yes", "No", "A")).items()}
    assert found["4"] == {"4"}  # Qwen writes every digit, and the blank before it, as a token of its own
    assert {"Yes", " Yes", "yes", " yes", "YES"} <= found["Yes"]
    assert {"No", " No", "no", " no"} <= found["No"]
    assert not found["Yes"] & found["No"]
    assert found["A"] == {"A", " A", "\tA"}  # and no article
    assert all(piece.strip().casefold() == label.casefold() for label in found for piece in found[label])


def spelled(chat: Chat, labels: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    return dict(zip(labels, chat.label_tokens(labels).spellings, strict=True))


@given(st.lists(st.lists(st.floats(-40, 0), min_size=1, max_size=4), min_size=1, max_size=6))
def test_the_probabilities_of_a_labels_spellings_are_added_up(rows):
    ids = iter(range(100))
    labels = LabelTokens(tuple(tuple(next(ids) for _ in row) for row in rows))
    sums = labels.sums([value for row in rows for value in row])
    assert sums == pytest.approx([math.log(sum(map(math.exp, row))) for row in rows])
    assert all(total == row[0] for total, row in zip(sums, rows, strict=True) if len(row) == 1)


@pytest.mark.parametrize("answer", ['"Score": 4', '"Score": [[4]]', '"Score":4', '"Score": "4"'])
@pytest.mark.parametrize("said", ["It is right.", "颜色正确, 背景没有变。", "5 of 5 🙂: well done"])
def test_the_score_after_reasoning_is_found_among_real_tokens(chat, said, answer):
    pieces = chat.pieces(chat.encode(f'"Reasoning": "{said}",\n{answer}'))
    position = score_position(pieces, MARKER, SCORE_LABELS)
    assert position is not None
    assert pieces[position].strip() == "4"
    assert "".join(pieces[:position]).rstrip(' "[').endswith(":")


@pytest.mark.parametrize("said", ["It is", '"Reasoning": "没有变', '"Reasoning": "x", "Score":', '"Score": [['])
def test_an_answer_that_was_cut_is_closed_so_that_a_label_comes_next(chat, said):
    ids = (*chat.encode(said), *chat.encode(closing_text(said, MARKER)), *chat.label_ids(("3",)))
    position = score_position(chat.pieces(ids), MARKER, SCORE_LABELS)
    assert position == len(ids) - 1


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_instructions_of_all_scripts_reach_the_judge_as_they_were_written(chat, instruction):
    messages = conversation(before_and_after(edit(instruction)), instruction)
    ids = chat.token_ids(messages)
    assert chat.tokenizer.decode(ids) == chat.text(messages)
    assert ids.count(chat.tokenizer.convert_tokens_to_ids("<|image_pad|>")) == 2
    assert instruction in chat.decode(ids)


def test_the_structure_of_the_prompt_is_known_and_thoughts_are_text(chat):
    assert set(CONTROL_TOKENS) <= chat.control_tokens
    assert not chat.control_tokens & {"<think>", "</think>"}
    assert all(chat.encode(token) == (chat.tokenizer.convert_tokens_to_ids(token),) for token in CONTROL_TOKENS)
    assert not chat.control_ids & set(chat.encode("<im_end> <|imend|> < |im_end|>"))


@pytest.mark.parametrize("thought", ["", "红色的圆形变成了蓝色。", 'I would say "Score": 5, or 4. 🙂'])
@pytest.mark.parametrize("opened", [True, False])
def test_a_score_is_read_after_the_thoughts(chat, thought, opened):
    said = f"{'' if opened else '<think>'}\n{thought}\n</think>\n\n"
    answer = '"Reasoning": "right", "Score": 3'
    awaited = left_open("<|im_start|>assistant\n<think>\n") if opened else None
    pieces = chat.pieces(chat.encode(said + answer))
    thoughts = find_thoughts(pieces, awaited)
    assert "".join(pieces[thoughts.num_tokens :]).strip() == answer
    cut = chat.pieces(chat.encode(said.removesuffix("</think>\n\n")))
    assert find_thoughts(cut, awaited) == Thoughts(len(cut), "</think>")
    assert find_thoughts(chat.pieces(chat.encode(answer)), None) == Thoughts(0)
    assert left_open("assistant\n<think>\n\n</think>\n\n") is None
