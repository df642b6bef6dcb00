"""A trial question on loading, so that a checkpoint that cannot be asked stops a study at its start.

`check` writes the prompt with the chat template; `ask` runs it through the weights, with a small image.
"""

from __future__ import annotations

from pathlib import Path

import torch

from medstudy.data.example import Question, Shot
from medstudy.engine import shared_prefix
from medstudy.errors import MedstudyError, ModelError
from medstudy.models.checkpoint_files import listed
from medstudy.models.family import Family
from medstudy.resolution.policies import Native
from medstudy.resolution.sizes import Size

QUESTION = Question("q", "Which stain is used?", "B", "choice", "stain", options=("Giemsa", "Pap"))
EARLIER = (Shot(None, "Where is the lesion?", "upper left"), Shot(None, "And now?"))
TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates", "processor_config.json",
             "tokenizer_config.json")
SIDE = 224  # pixels of the image where a visual token has no fixed size


def check(family: Family, source: str, texts: tuple[str, ...]) -> None:
    """Raises ModelError for a token without an embedding, or a template that omits or reorders what it is given.

    texts: what a prompt of `QUESTION` must contain, in order. It must also have a placeholder for every image.
    """
    _check_embedding(family, source)
    if family.needs_template and family.processor.chat_template is None:
        raise ModelError(
            f"A checkpoint must define how its prompts are written, but {source!r} has no chat template in any of "
            f"{listed(TEMPLATES)}. Copy chat_template.jinja from the model that it was trained from."
        )
    contexts = ((), EARLIER) if family.shares_prefix else ((),)
    for context in contexts:
        for image in (True, False):
            _check_prompt(family, source, texts, image, context)


@torch.no_grad()
def ask(family: Family, source: str) -> None:
    """Raises ModelError where the model cannot read one question about one image, or its scores are not finite.

    Settings that contradict each other or the weights are so reported on loading, not in the middle of a study.
    """
    device = family.model.device
    try:
        geometry = family.geometry
        side = geometry.factor if geometry.factor > 1 else SIDE
        view = Native(max_pixels=side**2).view(Size(side, side), geometry)
        packed = shared_prefix.pack(family, [shared_prefix.row(family, (QUESTION,), view, False)])
        seen = family.look([torch.zeros((*view.size, 3), dtype=torch.uint8)], packed.grids.to(device))
        finite = family.model.lm_head(family.hidden(packed.to(device), seen)[-1:]).isfinite().all()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of any type, as the settings may break any step
        why = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise ModelError(
            f"The configuration of a checkpoint must fit its weights, but {source!r} cannot read one question about "
            f"one image: {why}. Use the config.json that the weights were saved with."
        ) from error
    if not finite:
        raise ModelError(
            f"Scores must be finite numbers, but {source!r} in {family.model.dtype} gives others for one question "
            "about one black image. Set model.dtype in the params to bfloat16 or float32, or use an intact checkpoint."
        )


def _check_embedding(family: Family, source: str) -> None:
    """Raises ModelError for tokens that have no row in the embedding, except the image token, which is replaced."""
    rows = family.model.get_input_embeddings().weight.shape[0]
    vocabulary = family.processor.tokenizer.get_vocab()
    if beyond := sorted(name for name, token in vocabulary.items() if token >= rows and token != family.image_token):
        raise ModelError(
            f"Every token must have a row in the model's embedding, but {source!r} has {rows} rows, and {len(beyond)} "
            f"tokens of its tokenizer lie beyond them ({listed(map(repr, beyond))}). Use the tokenizer that the "
            "weights were saved with, or resize the embedding and train it."
        )


def _check_prompt(family: Family, source: str, texts: tuple[str, ...], image: bool, context: tuple[Shot, ...]) -> None:
    try:
        prompt = family.prompt(QUESTION, image, context)
        marks = family.image_marks(prompt)
    except MedstudyError:
        raise
    except Exception as error:  # Jinja's, or any that the template causes
        raise _refused(source, f"it raises {type(error).__name__}: {error}") from error
    # The system prompt, the earlier questions and answers, and the question itself, in this order
    earlier, start = [part for shot in context for part in (shot.question, shot.answer) if part], 0
    for part in (texts[0], *earlier, *texts[1:]):
        place = prompt.find(part, start)
        if place < 0:
            why = "moves" if part in prompt else "leaves out or moves"
            raise _refused(source, f"it {why} {part!r}, and writes {prompt!r}")
        start = place + len(part)
    images = (1 + len(context)) * image
    if marks != images:
        raise _refused(source, f"for {images} images it writes {marks} placeholders, in {prompt!r}")


def _refused(source: str, why: str) -> ModelError:
    files = [name for name in TEMPLATES if (Path(source) / name).exists()]
    return ModelError(
        f"A chat template must write the system prompt, the question, and a placeholder for every image, but that of "
        f"{source!r} ({files[0] if files else 'its processor'}) does not: {why}. Repair the template, or copy the one "
        "of the model that the checkpoint was trained from."
    )
