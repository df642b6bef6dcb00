"""How a question about a scene of the general corpus is chosen, phrased and turned into a choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

from medstudy.data.example import LETTERS, Question
from medstudy.datasets.shapes.scene import Item, Scene
from medstudy.datasets.shapes.words import COLOURS, TONES, ask

Writer = Callable[[Scene, Random], Question | None]
WRITERS: dict[str, tuple[str, float, Writer]] = {}  # name -> topic, weight, writer; filled by the other modules
FOCUS = {"dots": "dot", "lines": "line", "word": "text", "texture": "texture"}  # recipe -> its topic
BOOST = 3.0  # a question on the recipe's topic is this much more frequent
OPEN_SHARE = 0.6  # share of open questions that stay open; the others become choices


def writes(topic: str, weight: float = 1.0) -> Callable[[Writer], Writer]:
    """Register a writer: a function that returns a question about a scene, or None if it does not apply."""

    def register(writer: Writer) -> Writer:
        WRITERS[writer.__name__] = (topic, weight, writer)
        return writer

    return register


def questions(scene: Scene, rng: Random, plain: bool = False) -> tuple[Question, ...]:
    """4 or 5 different questions, drawn by weight without replacement; no choices when `plain`."""
    focus, wanted, chosen = FOCUS.get(scene.recipe), rng.choice((4, 5)), []
    keys = {name: rng.random() ** (1 / (weight * (BOOST if topic == focus else 1.0)))
            for name, (topic, weight, _) in WRITERS.items()}
    for name in sorted(keys, key=keys.get, reverse=True):
        question = WRITERS[name][2](scene, rng)
        if question and not (plain and question.options):
            chosen.append(question)
        if len(chosen) == wanted:
            break
    return tuple(chosen)


def yes_no(key: str, task: str, yes: bool, rng: Random, detail: float | None = None, **fields: str) -> Question:
    """A closed question. detail: the size in px of the feature that decides it."""
    return Question.closed(key, ask(key, rng, **fields), yes, task, detail)


def name_it(key: str, task: str, answer: str, pool: Iterable[str], rng: Random, detail: float | None = None,
            kind: str = "open", **fields: str) -> Question:
    """A question answered by a word of `pool`; two times in five it is a choice of 2 to 4 of these words, shuffled."""
    text = ask(key, rng, **fields)
    if rng.random() < OPEN_SHARE:
        return Question(key, text, answer, kind, task, detail_px=detail)
    others = [word for word in pool if word != answer]
    options = [answer, *rng.sample(others, min(rng.randint(1, 3), len(others)))]
    rng.shuffle(options)
    return Question(key, text, LETTERS[options.index(answer)], "choice", task, tuple(options), detail_px=detail)


def coin(rng: Random) -> bool:
    """Yes or no with equal odds: the answer is drawn first, then a question that has this answer."""
    return rng.random() < 0.5


def unique(scene: Scene, name: Callable[[Item], str]) -> list[Item]:
    """The items whose name no other item in the scene has."""
    counts = Counter(map(name, scene.items))
    return [item for item in scene.items if counts[name(item)] == 1]


def pick(scene: Scene, rng: Random, name: Callable[[Item], str]) -> Item | None:
    """One of the items whose name no other item has; None if there is none."""
    items = unique(scene, name)
    return rng.choice(items) if items else None


def palette(scene: Scene) -> tuple[str, ...]:
    """The colour words of the scene; in a gray scene its tones."""
    return tuple(TONES if scene.gray else COLOURS)
