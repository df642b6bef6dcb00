"""The peer that evaluates through a server: each question once, and no image that the server made smaller."""

import json

import pytest

pytest.importorskip("openai", reason="the extra `server` is not installed")

from benchmarks import data
from benchmarks.peers import served
from tests.support.openai_server import OpenAIServer, answer


def asked(server, tiny_model, folder, *more):
    lines = data.noise(folder, (56, 84), images=3, questions=4)
    words = ["--url", server.url, "--served", "seer", "--model", tiny_model.id, "--data", str(lines),
             "--images-per-step", "1", "--steps", "2", "--out", str(folder / "out.json"), *more]
    served.main(words)
    return json.loads((folder / "out.json").read_text())


def test_each_question_is_asked_once_and_those_of_an_image_follow_each_other(tiny_model, tmp_path):
    with OpenAIServer(hold=0.02) as server:
        made = asked(server, tiny_model, tmp_path, "--concurrency", "4")
        assert server.most <= 4 and len(server.bodies) == 8 + 2  # and two to check the size
        answers = {answer(body) for body in server.bodies}
    assert made["questions"] == 8 and made["questions_per_second"] == pytest.approx(8 / made["seconds"])
    assert len({one["text"] for one in made["asked"]}) == 8 and {one["text"] for one in made["asked"]} <= answers
    assert [one["image"] for one in made["asked"]] == sorted(one["image"] for one in made["asked"])


def test_a_server_that_resizes_is_refused(tiny_model, tmp_path):
    with OpenAIServer(limit=28 * 28) as server, pytest.raises(SystemExit, match="must take 6 visual tokens"):
        asked(server, tiny_model, tmp_path)
