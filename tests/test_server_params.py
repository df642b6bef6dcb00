"""The block `server`: strict, with an address and a key that no message and no job repeats."""

import json

import pytest
import yaml

from medstudy import params, paths
from medstudy.cli import data
from medstudy.errors import ParamsError
from medstudy.evaluation import examine
from medstudy.runs import plan
from medstudy.utils import redact
from medstudy.workflow import displays, download, run

TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
TRAINS = ("seeds", "training", "bounds", "regimes", "controls", "model")
ALONE = {name: value for name, value in TINY.items() if name not in TRAINS} | {"regimes": []}
URL = "http://gpu-7.lab.example:8000/v1"
KEY = "sk-seeded-0123456789abcdef"


def study(root, model=None, **server):
    served = {"id": "models/seer", "family": "openai", "server": {"base_url": URL} | server} | (model or {})
    return params.parse(ALONE | {"root": str(root), "model": served}, folder=root)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({"base_url": "localhost:8000"}, "base_url is http://HOST"),
        ({"base_url": f"https://me:{KEY}@host/v1"}, "without a user, a password"),
        ({"base_url": f"https://host/v1?key={KEY}"}, "or a query"),
        ({"key": KEY}, "never the key itself"),
        ({"api_key": KEY}, "no such parameter; valid names here"),
        ({"factor": 0}, "greater than 0"),
        ({"detail": "medium"}, "'low', 'high' or 'auto'"),
        ({"extra": {"seed": 1}}, "the study itself sets seed"),
        ({"max_cost": 1.0}, "needs `prices`"),
        ({"prices": {"prompt": -1.0, "completion": 1.0, "image_tokens": 9}}, "greater than or equal to 0"),
    ],
)
def test_a_wrong_server_is_explained_and_no_key_is_repeated(tmp_path, server, words):
    with pytest.raises(ParamsError, match="model.server") as caught:
        study(tmp_path, **server)
    assert words in str(caught.value) and "seeded" not in str(caught.value)


def test_a_server_and_its_family_go_together(tmp_path):
    for model in ({"family": "qwen2_vl"}, {"server": None}):
        with pytest.raises(ParamsError, match="`server` go together"):
            study(tmp_path, model)


def test_a_name_at_a_server_is_no_path_even_if_a_folder_has_it(tmp_path):
    (tmp_path / "models" / "seer").mkdir(parents=True)
    assert study(tmp_path).model.id == "models/seer"


def test_no_job_has_the_address_and_none_needs_a_gpu(tmp_path):
    jobs = plan.plan(study(tmp_path, key="MY_KEY"))
    written = json.dumps([job.parameters for job in jobs], default=str)
    assert "example" not in written and "MY_KEY" not in written and '"name": "a server"' in written
    assert {job.gpus for job in jobs if job.stage == "evaluate"} == {0}
    public = study(tmp_path, base_url="https://api.openai.com/v1")
    assert "api.openai.com" in json.dumps([job.parameters for job in plan.plan(public)], default=str)


def test_only_what_decides_an_answer_renames_jobs(tmp_path):
    def names(**server):
        return [job.dir.name for job in plan.plan(study(tmp_path, **server))]

    before = names()
    prices = {"prompt": 1.0, "completion": 1.0, "image_tokens": 9}
    for quiet in ({"base_url": "http://other:9/v1"}, {"concurrency": 2}, {"timeout": 1.0}, {"retries": 1},
                  {"max_requests": 9}, {"prices": prices, "max_cost": 1.0}, {"key": "MY_KEY"}, {"listed": False}):
        assert names(**quiet) == before, quiet
    for loud in ({"detail": "low"}, {"seed": 1}, {"factor": 28}, {"omit": ["seed"]}, {"limit": "max_tokens"},
                 {"extra": {"top_k": 1}}, {"base_url": "https://openrouter.ai/api/v1"}):
        assert names(**loud) != before, loud


def test_other_models_have_no_server_in_their_jobs():
    jobs = plan.plan(params.parse(TINY))
    assert all("server" not in (job.parameters.get("model") or {}) for job in jobs)


def test_nothing_of_a_model_behind_a_server_is_looked_for_here(tmp_path, monkeypatch):
    for name in ("models/seer", "/no/such/folder", "base"):
        served = study(tmp_path, {"id": name}, factor=28)
        run.check_model(served)
        assert download._model(served.model).state == "behind a server, nothing to fetch"
        assert displays.outline(served.model) is None and displays.geometry(served.model).factor == 28
        assert data._geometry(served.model)[0].factor == 28
        assert examine.training_resolution(served) is None
    assert displays.geometry(study(tmp_path).model) is None


def test_an_engine_is_part_of_what_a_job_is_and_its_options_need_it():
    ours = {job.name: job.identity for job in plan.plan(params.parse(TINY))}
    vllm = {job.name: job.identity for job in plan.plan(params.parse(TINY | {"evaluation": {"engine": "vllm"}}))}
    assert ours["evaluate-base-s0"] != vllm["evaluate-base-s0"] and ours["data-phantom"] == vllm["data-phantom"]
    with pytest.raises(ParamsError, match="engine_options are those of"):
        params.parse(TINY | {"evaluation": {"engine_options": ["--x"]}})


def test_an_address_is_redacted_wherever_it_stands():
    tree = {"models": [{"server": {"base_url": URL}}, {"server": {"base_url": "https://api.openai.com/v1"}}]}
    for fields in (None, redact.FIELDS):
        assert [each["server"]["base_url"] for each in redact.tree(tree, fields)["models"]] == [
            "a server", "api.openai.com"]
