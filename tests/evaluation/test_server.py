"""A model behind a server: nothing is asked twice, nothing is lost, no cap is passed, and no key is written."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

pytest.importorskip("openai", reason="the extra `server` is not installed")

from medstudy import params, paths
from medstudy.errors import ModelError, ParamsError, RunError
from medstudy.evaluation import evaluate, kinds
from medstudy.evaluation.server import pace
from medstudy.params import Decoding, Model, Prices, Server
from medstudy.resolution.policies import Blind, Fixed, Native
from tests.project.test_docs import columns
from tests.support.openai_server import KEY, OpenAIServer, answer

LOW, NATIVE = Fixed(side=84), Native(max_pixels=112 * 112)
TRIALS = 3  # questions before the study: without an image, with a small one, with a large one


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pace, "FIRST_SECONDS", 0.02)


def made(server: OpenAIServer, root: Path, id: str = "seer", **settings) -> SimpleNamespace:
    """What an evaluation reads of a study."""
    model = Model(id=id, family="openai", server=Server(base_url=server.url, **{"factor": 28} | settings))
    return SimpleNamespace(model=model, runs=Path(root) / "runs", evaluation=Decoding(max_new_tokens=7), workers=0,
                           interpolation="bicubic", inference=(LOW, NATIVE))


def asked(study: SimpleNamespace, examples, *policies) -> pd.DataFrame:
    """The predictions of a model that is opened as an evaluation opens it."""
    model = kinds.opened(study)
    return pd.concat([evaluate.ask(model, examples, policy, study) for policy in policies or (LOW,)], ignore_index=True)


def test_a_row_has_what_was_sent_and_what_the_server_says(examples, tmp_path):
    with OpenAIServer() as server:
        rows = asked(made(server, tmp_path), examples, LOW, NATIVE, Blind())
        sent = server.bodies
    assert len(rows) == 3 * 12
    row = rows[(rows["image_id"] == "train-2") & (rows["question_id"] == "colour")].iloc[0]
    assert (row["shown_height"], row["shown_width"], row["visual_tokens"]) == (56, 84, 6)
    assert row["server_sent"] == ["56x84"] and row["server_model"] == "seer" and row["server_fingerprint"] == "fp_1"
    assert row["server_finish"] == "stop" and row["server_attempts"] == 1 and row["server_seconds"] >= 0
    assert (row["server_completion_tokens"], row["server_cached_tokens"], row["server_reasoning_tokens"]) == (2, 1, 0)
    body = next(body for body in sent if answer(body) == row["raw_text"])
    assert {name: body[name] for name in ("model", "temperature", "seed", "max_completion_tokens")} == {
        "model": "seer", "temperature": 0.0, "seed": 0, "max_completion_tokens": 7}
    assert body["messages"][-1]["content"][-1]["text"].endswith("Answer with a single letter, no extra details.")
    assert "<image>Which colour is shown?" in row["prompt"]
    blind = rows[rows["inference"] == "blind"]
    assert (blind["visual_tokens"] == 0).all() and not blind["prompt"].str.contains("<image>").any()
    assert blind["server_sent"].map(len).eq(0).all()
    assert {column for column in rows if column.startswith("server_")} == columns("server")


def test_every_fault_is_survived_and_nothing_is_answered_twice(examples, tmp_path, capsys):
    faults = {3: "429", 4: "500", 5: "hang", 6: "length", 7: "broken", 8: "cut", 10: "500", 11: "429"}
    with OpenAIServer() as server:
        expected = asked(made(server, tmp_path / "well"), examples)["raw_text"].tolist()
    with OpenAIServer(faults) as server:
        study = made(server, tmp_path, timeout=3.0)
        rows = asked(study, examples)
        assert rows["raw_text"].tolist() == expected
        assert "1 of 12 answers at fixed-84 were cut off at 7 tokens" in capsys.readouterr().out
        assert (rows["server_finish"] == "length").sum() == 1 and rows["server_attempts"].max() > 1
        lost = 2  # "broken" and "cut" were answered, but did not arrive
        assert sum(server.answered.values()) == 12 + TRIALS + lost
        assert max(server.answered.values()) == 2
        spent = json.loads(next(study.runs.rglob("spent.json")).read_text())
        assert spent["requests"] == server.received == 12 + TRIALS + 7
        again = asked(study, examples)
        assert server.received == 12 + TRIALS + 7  # all from disk, the trial too
    pd.testing.assert_frame_equal(again, rows, check_dtype=False)


def test_a_server_that_dies_and_comes_back_loses_nothing(examples, tmp_path):
    with OpenAIServer({9: "die"}) as server:
        back = threading.Thread(target=lambda: server.died.wait(20) and server.start())
        back.start()
        rows = asked(made(server, tmp_path), examples)
        back.join()
        assert server.died.is_set() and len(rows) == 12 and max(server.answered.values()) == 1
    assert rows["server_attempts"].max() > 1


def test_a_server_that_stays_away_stops_the_run_and_keeps_the_answers(examples, tmp_path):
    with OpenAIServer({9: "die"}) as server:
        study = made(server, tmp_path, retries=1, concurrency=1)
        with pytest.raises(RunError, match="did not answer a request in 2 attempts.*nothing is asked twice"):
            asked(study, examples)
        known = dict(server.answered)
        assert len(known) == 9
        server.start()
        assert len(asked(study, examples)) == 12 and max(server.answered.values()) == 1


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_cap_on_requests_is_never_passed_and_a_higher_one_goes_on(examples, tmp_path, concurrency):
    with OpenAIServer({4: "500", 6: "429"}, hold=0.01) as server:
        for most in (TRIALS + 2, TRIALS + 7):
            with pytest.raises(RunError, match=f"max_requests is {most}"):
                asked(made(server, tmp_path, max_requests=most, concurrency=concurrency), examples)
            assert server.received == most
        rows = asked(made(server, tmp_path, max_requests=TRIALS + 14, concurrency=concurrency), examples)
        assert server.received == TRIALS + 14 and len(rows) == 12 and max(server.answered.values()) == 1


def test_a_cap_on_cost_is_never_passed_even_by_requests_at_the_same_time(examples, tmp_path):
    prices = Prices(prompt=1e6, completion=1e6, image_tokens=400)  # one a token

    def true(server: OpenAIServer) -> float:
        """What the server would charge for all it answered."""
        replies = [server.reply(body)["usage"] for body in list(server.bodies)]
        return sum(usage["total_tokens"] for usage in replies)

    with OpenAIServer(hold=0.02) as server:
        with pytest.raises(RunError, match="max_cost is 1500.*nothing is asked twice"):
            asked(made(server, tmp_path, max_cost=1500.0, prices=prices), examples)
        assert TRIALS < server.received < TRIALS + 12
        assert 700 < true(server) <= 1500
        rows = asked(made(server, tmp_path, max_cost=1e6, prices=prices), examples)
        assert len(rows) == 12 and server.received == TRIALS + 12
        spent = json.loads(next((tmp_path / "runs").rglob("spent.json")).read_text())
        assert spent["cost"] == pytest.approx(true(server))


def test_concurrency_grows_and_is_halved_by_congestion():
    admitted = pace.Pace(8)
    for _ in range(60):
        with admitted.place():
            pass
        admitted.went_well()
    assert admitted.limit == 8
    with admitted.place() as began:
        admitted.congested(began)
        admitted.congested(began - 0.001)  # began before that decrease: the same congestion
    assert admitted.limit == 4
    admitted.stop()
    with pytest.raises(pace.Stopped), admitted.place():
        raise AssertionError("nothing is sent after a stop")


def test_requests_are_sent_at_the_same_time_but_never_more_than_allowed(examples, tmp_path):
    for concurrency, most in ((1, 1), (6, 6)):
        with OpenAIServer(hold=0.05) as server:
            asked(made(server, tmp_path / str(concurrency), concurrency=concurrency), examples, LOW, NATIVE)
            assert server.most <= most and (concurrency == 1 or server.most >= 4)


def test_delays_double_up_to_a_minute_and_keep_what_the_server_asks(monkeypatch):
    monkeypatch.setattr(pace, "FIRST_SECONDS", 0.5)
    waits = [pace.delay("key", attempt, None) for attempt in range(1, 12)]
    assert all(0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(waits[:7])) and max(waits) <= 60
    assert pace.delay("key", 1, 7.5) == 7.5 and pace.delay("key", 1, None) != pace.delay("other", 1, None)


def test_no_file_error_or_row_has_the_key_or_the_address(examples, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", KEY)
    with OpenAIServer({5: "400"}, keyed=True) as server:
        study, errors = made(server, tmp_path, key="MY_KEY"), []
        with pytest.raises(ModelError, match="status 400.*no images here") as caught:
            asked(study, examples)
        errors.append(str(caught.value))
        rows = asked(study, examples)
        (tmp_path / "about.json").write_text(json.dumps(kinds.opened(study).about()))
        monkeypatch.setenv("MY_KEY", "sk-wrong-0123456789")
        with pytest.raises(ModelError, match="MY_KEY was sent") as caught:
            asked(made(server, tmp_path / "b", key="MY_KEY"), examples)
        errors.append(str(caught.value))
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(ModelError, match="must be in the environment variable MY_KEY"):
            asked(made(server, tmp_path / "c", key="MY_KEY"), examples)
        with pytest.raises(ModelError, match="none was sent"):
            asked(made(server, tmp_path / "d"), examples)
        rows.to_csv(tmp_path / "rows.csv")
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        texts = [file.read_text() for file in files] + errors + list(capsys.readouterr())
    assert len(files) > 12
    for text in texts:
        assert "sk-" not in text and "127.0.0.1" not in text and str(server.port) not in text


def test_the_default_key_goes_to_no_server_but_openai_s(examples, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIServer(keyed=True) as server, pytest.raises(ModelError, match="none was sent"):
        asked(made(server, tmp_path), examples)


def test_what_is_wrong_with_a_server_is_said_before_the_study(examples, tmp_path):
    with OpenAIServer() as server:
        with pytest.raises(ModelError, match="got 'sear'; it lists 'seer'"):
            asked(made(server, tmp_path, id="sear"), examples)
        assert server.received == 0
        asked(made(server, tmp_path, id="sear", listed=False), examples)
        url = server.url
    with pytest.raises(ModelError, match="must lead to a server.*usually ends in /v1"):
        asked(made(SimpleNamespace(url=url), tmp_path), examples)
    with OpenAIServer(sees=False) as server, pytest.raises(ModelError, match="as many prompt tokens.*as without"):
        asked(made(server, tmp_path / "blind"), examples)
    with OpenAIServer({1: "400"}) as server, pytest.raises(ModelError, match="answers without one and refuses"):
        asked(made(server, tmp_path / "refuses"), examples)


def test_a_server_that_resizes_again_is_noticed(examples, tmp_path):
    with OpenAIServer(limit=60 * 60) as server:
        with pytest.warns(UserWarning, match="does not see images at the size that is sent"):
            model = kinds.opened(made(server, tmp_path))
        assert "112x112: planned 16" in model.about()["notice"]
        with pytest.warns(UserWarning, match="answers at native.*server_tokens_fit"):
            rows = asked(made(server, tmp_path), examples, LOW, NATIVE)
    assert (rows["server_tokens_fit"] == False).any()  # noqa: E712 (None is not False)
    with OpenAIServer() as server:
        rows = asked(made(server, tmp_path / "well"), examples, LOW, NATIVE)
    assert (rows["server_tokens_fit"] == False).sum() == 0 and (rows["server_tokens_fit"] == True).any()  # noqa: E712


def test_without_a_factor_any_size_is_sent_and_the_tokens_are_unknown(examples, tmp_path):
    with OpenAIServer() as server:
        rows = asked(made(server, tmp_path, factor=None, detail="low"), examples, LOW)
        sent = [part for body in server.bodies for turn in body["messages"] for part in turn["content"]]
    row = rows[rows["image_id"] == "train-2"].iloc[0]
    assert row["server_sent"] == ["70x99"] and rows["visual_tokens"].isna().all()
    assert rows["server_tokens_fit"].isna().all() and set(rows["server_detail"]) == {"low"}
    assert {part["image_url"]["detail"] for part in sent if part["type"] == "image_url"} == {"low"}


def test_a_request_says_what_its_settings_ask_and_each_decides_its_key(examples, tmp_path):
    with OpenAIServer() as server:
        settings = {"omit": ("temperature",), "limit": "max_tokens", "extra": {"top_k": 1}, "seed": 3}
        asked(made(server, tmp_path, **settings), examples[:1])
        body = server.bodies[-1]
        assert "temperature" not in body and "max_completion_tokens" not in body
        assert (body["max_tokens"], body["top_k"], body["seed"]) == (7, 1, 3)
        before = server.received
        asked(made(server, tmp_path, **settings | {"concurrency": 2, "timeout": 9.0}), examples[:1])
        assert server.received == before
        for one in ({"seed": 4}, {"extra": {}}, {"omit": ()}, {"limit": "max_completion_tokens"}, {"detail": "high"}):
            asked(made(server, tmp_path, **settings | one), examples[:1])
            assert server.received > before
            before = server.received


def test_a_study_is_refused_what_a_server_cannot_do(examples, tmp_path):
    with OpenAIServer() as server:
        study = made(server, tmp_path)
        for evaluation, words in ((Decoding(option_likelihoods=True), "option_likelihoods"),
                                  (Decoding(author=params.Author()), "evaluation.author")):
            with pytest.raises(ParamsError, match=words):
                kinds.opened(SimpleNamespace(**vars(study) | {"evaluation": evaluation}))
        assert server.received == 0


SCRIPT = """
import sys
from types import SimpleNamespace
from tests.conftest import make_example
from tests.evaluation.test_server import asked, made
examples = [make_example(index, size) for index, size in enumerate([(56, 84), (112, 112), (140, 196), (90, 60)])]
asked(made(SimpleNamespace(url=sys.argv[1]), sys.argv[2], concurrency=2, max_requests=17), examples)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_asks_only_for_what_is_missing_and_stays_below_its_cap(examples, tmp_path):
    with OpenAIServer(hold=0.2) as server:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, server.url, tmp_path], cwd=paths.ROOT)
        while server.received < TRIALS + 5:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        kept = len(list((tmp_path / "runs" / "responses").glob("*/*/*.json")))
        account = next((tmp_path / "runs").rglob("spent.json"))
        spent = json.loads(account.read_text())["requests"]  # what was sent, or was about to be
        assert server.received <= spent <= 17 and TRIALS <= kept < spent and spent - kept <= 2
        needed = spent + TRIALS + 12 - kept
        with pytest.raises(RunError, match=f"max_requests is {needed - 1}"):  # what was under way counts
            asked(made(server, tmp_path, max_requests=needed - 1), examples)
        rows = asked(made(server, tmp_path, max_requests=needed), examples)
        assert len(rows) == 12 and server.received <= needed == json.loads(account.read_text())["requests"]
