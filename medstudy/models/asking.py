"""A prompt written when a model is loaded, so that a chat template that is missing or broken stops a study there."""

from __future__ import annotations

from pathlib import Path

from medstudy.errors import MedstudyError, ModelError
from medstudy.models.files import listed
from medstudy.records import Question, Shot

ASKED = Question("q", "Which stain is used?", "B", "choice", "stain", options=("Giemsa", "Pap"))
EARLIER = (Shot(None, "Where is the lesion?", "upper left"), Shot(None, "And now?"))
TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates", "processor_config.json",
             "tokenizer_config.json")  # fmt: skip


def check(family, place: str, texts: tuple[str, ...]) -> None:
    """Raises ModelError unless the template writes all that it is given: texts, and a mark for every image.

    texts: what a prompt of `ASKED` must hold, in that order.
    """
    if family.needs_template and family.processor.chat_template is None:
        raise ModelError(
            f"A checkpoint must say how its prompts are written, but {place!r} has no chat template: neither "
            f"{listed(TEMPLATES)} holds one. Copy chat_template.jinja from the model that it was trained from."
        )
    contexts = ((), EARLIER) if family.shares_prefix else ((),)
    for context in contexts:
        for image in (True, False):
            _written(family, place, texts, image, context)


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
