"""A question asked when a model is loaded, so that a study stops there where it could not be asked later.

First its prompt is written, by the chat template; with the weights loaded it is read, with a small image.
"""

from __future__ import annotations

from pathlib import Path

import torch

from medstudy.data.example import Question, Shot
from medstudy.engine import shared_prefix
from medstudy.errors import MedstudyError, ModelError
from medstudy.models.files import listed
from medstudy.resolution.policies import Native
from medstudy.resolution.sizes import Size

ASKED = Question("q", "Which stain is used?", "B", "choice", "stain", options=("Giemsa", "Pap"))
EARLIER = (Shot(None, "Where is the lesion?", "upper left"), Shot(None, "And now?"))
TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates", "processor_config.json",
             "tokenizer_config.json")
SIDE = 224  # pixels of the image that is shown, where a visual token has no fixed size


def check(family, place: str, texts: tuple[str, ...]) -> None:
    """Raises ModelError unless the template writes all that it is given: texts, and a mark for every image.

    texts: what a prompt of `ASKED` must hold, in that order. Raises it too for tokens that have no embedding.
    """
    _embedded(family, place)
    if family.needs_template and family.processor.chat_template is None:
        raise ModelError(
            f"A checkpoint must say how its prompts are written, but {place!r} has no chat template: neither "
            f"{listed(TEMPLATES)} holds one. Copy chat_template.jinja from the model that it was trained from."
        )
    contexts = ((), EARLIER) if family.shares_prefix else ((),)
    for context in contexts:
        for image in (True, False):
            _written(family, place, texts, image, context)


@torch.no_grad()
def tried(family, place: str) -> None:
    """Raises ModelError where the model cannot read one question of one image, or finds no finite scores.

    So that settings that fit neither each other nor the weights are named here, not in the middle of a study.
    """
    device = family.model.device
    try:
        geometry = family.geometry
        side = geometry.factor if geometry.factor > 1 else SIDE
        view = Native(max_pixels=side**2).shown(Size(side, side), geometry)
        packed = shared_prefix.pack(family, [shared_prefix.row(family, (ASKED,), view, False)])
        seen = family.look([torch.zeros((*view.size, 3), dtype=torch.uint8)], packed.grids.to(device))
        finite = family.model.lm_head(family.hidden(packed.to(device), seen)[-1:]).isfinite().all()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of whatever kind the settings lead to
        why = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise ModelError(
            f"The configuration of a checkpoint must fit its weights, but {place!r} cannot read one question of one "
            f"image: {why}. Use the config.json that the weights were saved with."
        ) from error
    if not finite:
        raise ModelError(
            f"Scores must be finite numbers, but those of {place!r} in {family.model.dtype} are not for one question "
            "of one black image. Set model.dtype in the params to bfloat16 or float32, or use a sound checkpoint."
        )


def _embedded(family, place: str) -> None:
    """Raises ModelError for tokens of the tokenizer that the model has no row for; the image's own is replaced."""
    rows = family.model.get_input_embeddings().weight.shape[0]
    every = family.processor.tokenizer.get_vocab()
    if beyond := sorted(name for name, one in every.items() if one >= rows and one != family.image_token):
        raise ModelError(
            f"Every token must have its row of the model's embedding, but that of {place!r} has {rows} rows, and its "
            f"tokenizer {len(beyond)} tokens beyond them ({listed(map(repr, beyond))}). Use the tokenizer that the "
            "weights were saved with, or resize the embedding and train it."
        )


def _written(family, place: str, texts: tuple[str, ...], image: bool, context: tuple[Shot, ...]) -> None:
    try:
        text = family.prompt(ASKED, image, context)
        marks = family.marks(text)
    except MedstudyError:
        raise
    except Exception as error:  # Jinja's, or of whatever the template does
        raise _refused(place, f"it raises {type(error).__name__}: {error}") from error
    due, at = [part for shot in context for part in (shot.question, shot.answer) if part], 0
    for part in (texts[0], *due, *texts[1:]):
        found = text.find(part, at)
        if found < 0:
            why = "leaves out or moves" if part not in text else "moves"
            raise _refused(place, f"it {why} {part!r}, and writes {text!r}")
        at = found + len(part)
    images = (1 + len(context)) * image
    if marks != images:
        raise _refused(place, f"of {images} images it marks {marks}, and writes {text!r}")


def _refused(place: str, why: str) -> ModelError:
    here = [name for name in TEMPLATES if (Path(place) / name).exists()]
    return ModelError(
        f"A chat template must write the system prompt, the question, and a mark for every image that it is given, but "
        f"that of {place!r} ({here[0] if here else 'its processor'}) does not: {why}. Repair the template, or copy "
        "that of the model that the checkpoint was trained from."
    )
