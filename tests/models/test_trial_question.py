"""A chat template that is missing, fails or omits something stops a study when its model is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medstudy import models
from medstudy.errors import ModelError
from medstudy.models import trial_question
from medstudy.params import Model
from medstudy.pretraining.tiny_qwen2_vl import CHAT_TEMPLATE
from tests.support import altered
from tests.support.families import FAMILIES

TURNS, IMAGE = "{% for message in messages %}", "<|image_pad|>"
PART = "{% elif 'text' in part %}{{ part['text'] }}"


def _part(written: str) -> str:
    """The template with another expression for the text of a part."""
    return CHAT_TEMPLATE.replace(PART, PART.replace("part['text'] }}", written + " }}"))


WRONG = {
    # title: template, the error
    "says nothing": ("{{ 'hello' }}", "leaves out or moves 'You are"),
    "no system prompt": (
        CHAT_TEMPLATE.replace(TURNS, TURNS.replace("messages", "messages[1:]")),
        "leaves out or moves 'You are a biomedical expert.'",
    ),
    "no image": (CHAT_TEMPLATE.replace(IMAGE, ""), "for 1 images it writes 0 placeholders"),
    "an image twice": (CHAT_TEMPLATE.replace(IMAGE, IMAGE * 2), "for 1 images it writes 2 placeholders"),
    "always an image": (IMAGE + CHAT_TEMPLATE.replace(IMAGE, ""), "for 0 images it writes 1 placeholders"),
    "the last turn alone": (
        CHAT_TEMPLATE.replace(TURNS, TURNS.replace("messages", "[messages[0], messages[-1]]")),
        "leaves out or moves 'Where is the lesion",
    ),
    "one image alone": (
        CHAT_TEMPLATE.replace("part['type'] == 'image'", "part['type'] == 'image' and message == messages[-1]"),
        "for 3 images it writes 2 placeholders",
    ),
    "no question": (_part("part['text'] if message['role'] == 'system'"), "leaves out or moves 'Which stain is used"),
    "one line of the question": (_part("part['text'].split('\n')[0]"), "leaves out or moves 'A. Giemsa'"),
    "upper case": (_part("part['text'] | upper"), "leaves out"),
    "system behind": (CHAT_TEMPLATE.replace("in messages %}", "in messages | reverse %}"), "moves"),
    "raises": ("{{ raise_exception('no role') }}", "raises TemplateError: no role"),
    "no syntax": ("{% for message in %}", "raises TemplateSyntaxError"),
    "plain strings only": (TURNS + "{{ message['content'] + '' }}{% endfor %}", "raises TypeError"),
    "a variable of other programs": ("{{ documents[0].title.upper() }}", "raises UndefinedError"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_writes_all_parts_of_a_prompt(checkpoints, name):
    models.sketch(Model(id=str(checkpoints[name]), family=name))


@pytest.mark.parametrize("title", WRONG)
@pytest.mark.parametrize("whole", [True, False], ids=["load", "sketch"])
def test_a_template_that_omits_something_is_refused(tiny_model, tmp_path, title, whole):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    template, said = WRONG[title]
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError) as raised:
        (models.load if whole else models.sketch)(Model(id=str(folder)))
    assert "(chat_template.jinja)" in str(raised.value) and said in str(raised.value)


def _placed(folder, place: str, template: str):
    (folder / "chat_template.jinja").unlink()
    if place == "additional_chat_templates":
        (folder / place).mkdir()
        (folder / place / "default.jinja").write_text(template)
    elif place == "chat_template.json":
        (folder / place).write_text(json.dumps({"chat_template": template}))
    elif place == "a list":
        listed = [{"name": "default", "template": template}, {"name": "tool_use", "template": "{{ 'x' }}"}]
        altered.change(folder / "tokenizer_config.json", chat_template=listed)
    else:
        altered.change(folder / place, chat_template=template)


PLACES = ["chat_template.json", "tokenizer_config.json", "processor_config.json", "additional_chat_templates", "a list"]


@pytest.mark.parametrize("place", PLACES)
def test_the_template_is_read_from_any_of_its_files(tiny_model, tmp_path, place):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    _placed(folder, place, CHAT_TEMPLATE)
    family = models.load(Model(id=str(folder)))
    assert family.prompt(trial_question.QUESTION) == models.load(tiny_model).prompt(trial_question.QUESTION)


@pytest.mark.parametrize("place", PLACES)
def test_a_broken_template_is_refused_in_any_of_its_files(tiny_model, tmp_path, place):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    _placed(folder, place, "{{ raise_exception('no role') }}")
    with pytest.raises(ModelError, match="raises TemplateError: no role"):
        models.load(Model(id=str(folder)))


def test_a_missing_template_is_refused(tiny_model, tmp_path):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template.*Copy chat_template.jinja"):
        models.load(Model(id=str(folder)))


def test_a_tokenizer_without_the_image_token_is_refused(tiny_model, tmp_path):
    folder = altered.copy(tiny_model.id, tmp_path / "other", config={"image_token_id": 5})
    with pytest.raises(ModelError, match="for 1 images it writes 0 placeholders"):
        models.load(Model(id=str(folder)))


def test_tokens_without_an_embedding_are_refused(tiny_model, tmp_path):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    content = json.loads((folder / "tokenizer.json").read_text())
    rows = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    last = content["added_tokens"][-1]
    content["added_tokens"] += [last | {"id": id_, "content": f"<{id_}>"} for id_ in range(last["id"] + 1, rows + 1)]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=f"{rows} rows.*1 tokens of its tokenizer lie beyond them .'<{rows}>'"):
        models.load(Model(id=str(folder)))


def test_settings_on_which_the_trial_question_fails_stop_loading(tiny_model, tmp_path):
    vision = json.loads((Path(tiny_model.id) / "config.json").read_text())["vision_config"]
    folder = altered.copy(tiny_model.id, tmp_path / "other", config={"vision_config": vision | {"num_heads": 5}})
    with pytest.raises(ModelError, match="cannot read one question about one image: .*Use the config.json"):
        models.load(Model(id=str(folder)))


def test_scores_that_are_not_finite_stop_loading(tiny_model, tmp_path):
    def larger(tensors):
        return {name: tensor * 1e30 if "norm" in name else tensor for name, tensor in tensors.items()}

    folder = altered.weights(tiny_model.id, tmp_path / "other", larger)
    with pytest.raises(ModelError, match="Scores must be finite numbers, but .* in torch.float32 gives others"):
        models.load(Model(id=str(folder)))
