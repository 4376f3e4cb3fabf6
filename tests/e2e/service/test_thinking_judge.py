"""A judge whose prompt ends where it begins to think: no score is read from a thought."""

import shutil
from pathlib import Path

import httpx
import pytest

from tests.support.serving import png, reward_service

OPENS = "<|im_start|>assistant\n<think>\n"
ENDED = "<|im_start|>assistant\n<think>\n\n</think>\n\n"


@pytest.fixture(scope="module")
def thinking_judge(tiny_judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random judge with the template of a judge that can be told not to think."""
    judge = shutil.copytree(tiny_judge, tmp_path_factory.mktemp("thinking") / "judge")
    template = judge / "chat_template.jinja"
    answers = "<|im_start|>assistant\n"
    choice = "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}"
    text = template.read_text()
    assert answers in text
    template.write_text(text.replace(answers, answers + choice))
    return judge


def ask(url: str, method: str, path: str = "/v1/score") -> httpx.Response:
    files = {"source": png(1), "candidates": png(2)}
    return httpx.post(url + path, files=files, data={"instruction": "make it red", "method": method}, timeout=60)


def test_methods_that_read_the_first_token_are_refused_and_others_go_past_the_thoughts(thinking_judge):
    with reward_service(thinking_judge, max_reasoning_tokens=8, max_thinking_tokens=4) as url:
        refused = ask(url, "score_logit")
        assert (refused.status_code, refused.json()["code"]) == (422, "thinking_judge")
        assert "enable_thinking" in refused.json()["detail"]
        assert "score_logit_cot" in refused.json()["detail"]
        offered = httpx.get(f"{url}/v1/info").json()["methods"]
        assert "score_logit_cot" in offered
        assert not {"score_logit", "score_logit_direct", "yes_no_logit", "verifier"} & set(offered)
        assert ask(url, "score_logit_cot", "/v1/prompt").json()["text"].endswith(OPENS)
        (closed,) = ask(url, "score_logit_cot").json()["results"]
        assert closed["status"] == "ok"
        assert closed["details"]["closed"]
        assert sum(closed["distribution"].values()) == pytest.approx(1)
        (cut,) = ask(url, "score_sampling_cot").json()["results"]
        assert cut["status"] == "error"
        assert "still thinking after 12 tokens" in cut["error"]["message"]


def test_a_judge_that_is_told_not_to_think_scores_at_its_first_token(thinking_judge):
    with reward_service(thinking_judge, chat_template_kwargs={"enable_thinking": False}) as url:
        assert ask(url, "score_logit", "/v1/prompt").json()["text"].endswith(f'{ENDED}"Score": [[')
        (scored,) = ask(url, "score_logit").json()["results"]
        assert scored["status"] == "ok"
