"""Questions about the dots, lines, letters and the background of a scene, and its description."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from random import Random

from medstudy.data.example import Question
from medstudy.datasets.shapes.questions import coin, name_it, palette, pick, writes, yes_no
from medstudy.datasets.shapes.scene import DOT_NUMBERS, Dot, Item, Scene
from medstudy.datasets.shapes.words import (
    BACKGROUNDS,
    COUNTS,
    DIRECTIONS,
    GRAINS,
    LETTERS,
    NOISY,
    NUMERALS,
    QUADRANTS,
    QUIET,
    SIDES,
    TEXTURES,
    TONES,
    WORDS,
    a,
    ask,
    plural,
    sentence,
)


def _dot_px(scene: Scene) -> float | None:
    return scene.dots[0].diameter if scene.dots else None


def _line_px(scene: Scene) -> float | None:
    return scene.lines[0][-1] if scene.lines else None


@writes("dot")
def _dot_present(scene: Scene, rng: Random) -> Question | None:
    """Asked of only some scenes, so that yes and no are equally frequent."""
    if scene.recipe != "dots" or rng.random() > (0.75 if scene.dots else 0.85):
        return None
    return yes_no("dot_present", "dot", bool(scene.dots), rng, _dot_px(scene))


@writes("dot")
def _dot_colour_present(scene: Scene, rng: Random) -> Question | None:
    if not scene.dots:
        return None
    yes = coin(rng)
    colour = scene.marks.colour if yes else rng.choice([c for c in palette(scene) if c != scene.marks.colour])
    return yes_no("dot_colour_present", "dot", yes, rng, _dot_px(scene), colour=colour)


@writes("dot", 2.0)
def _dot_inside(scene: Scene, rng: Random) -> Question | None:
    item = pick(scene, rng, attrgetter("name")) if scene.dots else None
    if not item:
        return None
    yes = scene.items.index(item) in [dot.host for dot in scene.dots]
    return yes_no("dot_inside", "dot", yes, rng, _dot_px(scene), item=item.name)


@writes("dot", 3.0)
def _where_dot(scene: Scene, rng: Random) -> Question | None:
    """The quadrant of the only dot, or the quadrant that contains all dots."""
    spots = {scene.quadrant(dot.x, dot.y) for dot in scene.dots}
    key = "where_dot" if len(scene.dots) == 1 else "where_dots"
    return name_it(key, "dot", *spots, QUADRANTS, rng, _dot_px(scene)) if len(spots) == 1 else None


@writes("dot")
def _dot_colour(scene: Scene, rng: Random) -> Question | None:
    key = "dot_tone" if scene.gray else "dot_colour"
    return name_it(key, "dot", scene.marks.colour, palette(scene), rng, _dot_px(scene)) if scene.dots else None


@writes("dot", 2.0)
def _count_dots(scene: Scene, rng: Random) -> Question | None:
    """Every number is equally frequent: scenes with 0 or 1 dots are the most common, so fewer of them are asked."""
    if scene.recipe != "dots" or rng.random() > DOT_NUMBERS[-1] / DOT_NUMBERS[len(scene.dots)]:
        return None
    return name_it("count_dots", "dot", str(len(scene.dots)), NUMERALS, rng, _dot_px(scene))


@writes("line")
def _line_present(scene: Scene, rng: Random) -> Question | None:
    """Asked of only some scenes with lines, so that yes and no are equally frequent."""
    if scene.recipe != "lines" or (scene.lines and rng.random() > 0.7):
        return None
    return yes_no("line_present", "line", bool(scene.lines), rng, _line_px(scene))


@writes("line")
def _count_lines(scene: Scene, rng: Random) -> Question | None:
    if scene.recipe != "lines" or (not scene.lines and rng.random() > 0.5):
        return None
    return name_it("count_lines", "line", str(len(scene.lines)), NUMERALS[:5], rng, _line_px(scene))


@writes("line")
def _line_direction(scene: Scene, rng: Random) -> Question | None:
    if not scene.lines:
        return None
    return name_it("line_direction", "line", scene.line_direction, DIRECTIONS, rng, _line_px(scene))


@writes("text", 2.0)
def _read(scene: Scene, rng: Random) -> Question | None:
    pool = WORDS if len(scene.word) > 1 else LETTERS
    return name_it("read", "text", scene.word, pool, rng) if scene.word else None


@writes("text")
def _word_present(scene: Scene, rng: Random) -> Question | None:
    if not scene.word:
        return None
    pool, yes = WORDS if len(scene.word) > 1 else LETTERS, coin(rng)
    word = scene.word if yes else rng.choice([word for word in pool if word != scene.word])
    key = "word_present" if len(scene.word) > 1 else "letter_present"
    return yes_no(key, "text", yes, rng, word=word)


@writes("text")
def _count_letters(scene: Scene, rng: Random) -> Question | None:
    if len(scene.word) <= 1:
        return None
    return name_it("count_letters", "text", str(len(scene.word)), NUMERALS[2:], rng)


@writes("text")
def _text_colour(scene: Scene, rng: Random) -> Question | None:
    if not scene.word or scene.gray:
        return None
    return name_it("text_colour", "text", scene.marks.colour, palette(scene), rng)


@writes("texture", 0.7)
def _texture(scene: Scene, rng: Random) -> Question | None:
    return name_it("texture", "texture", scene.texture, tuple(TEXTURES), rng, kind="class")


@writes("texture", 0.7)
def _noisy(scene: Scene, rng: Random) -> Question | None:
    if scene.texture not in (*NOISY, *QUIET):
        return None
    return yes_no("noisy", "texture", scene.texture in NOISY, rng)


@writes("texture", 0.5)
def _texture_present(scene: Scene, rng: Random) -> Question | None:
    yes = coin(rng)
    texture = scene.texture if yes else rng.choice([word for word in TEXTURES if word != scene.texture])
    return yes_no("texture_present", "texture", yes, rng, adjective=TEXTURES[texture])


@writes("texture")
def _grain(scene: Scene, rng: Random) -> Question | None:
    grain = GRAINS.get(scene.texture)
    return name_it("grain", "texture", grain, GRAINS.values(), rng) if grain else None


@writes("texture")
def _stripe_direction(scene: Scene, rng: Random) -> Question | None:
    striped = scene.texture == "stripes"
    return name_it("stripe_direction", "texture", scene.direction, DIRECTIONS, rng) if striped else None


@writes("texture")
def _brighter_side(scene: Scene, rng: Random) -> Question | None:
    shaded = scene.texture == "gradient"
    return name_it("brighter_side", "texture", scene.direction, SIDES, rng) if shaded else None


@writes("colour", 0.7)
def _background(scene: Scene, rng: Random) -> Question | None:
    pool = ("white", "gray", "black") if scene.gray else tuple(BACKGROUNDS)
    return name_it("background", "colour", scene.background, pool, rng)


@writes("colour", 0.7)
def _background_tone(scene: Scene, rng: Random) -> Question | None:
    """Asked of black and white backgrounds, which are equally frequent."""
    tone = {"black": "dark", "white": "bright"}.get(scene.background)
    return name_it("background_tone", "colour", tone, tuple(TONES), rng) if tone else None


@writes("description", 6.0)
def _description(scene: Scene, rng: Random) -> Question:
    return Question("description", ask("description", rng), describe(scene), "description", "description")


def describe(scene: Scene) -> str:
    """One sentence on the objects in the image and where they are, then on the background."""
    counts = Counter(item.name for item in scene.items)
    nouns = [_placed(scene, number, name, [item for item in scene.items if item.name == name])
             for name, number in counts.most_common()]
    if len(counts) > 3:
        nouns = [_several(len(scene.items), "shape")]
    if scene.dots:
        nouns.append(_placed(scene, len(scene.dots), f"small {scene.marks.colour} dot", scene.dots))
    if scene.lines:
        nouns.append(_several(len(scene.lines), f"{scene.line_direction} {scene.marks.colour} line"))
    if scene.word:
        kind = "word" if len(scene.word) > 1 else "letter"
        nouns.append(f'the {kind} "{scene.word}" in {scene.marks.colour}')
    ground = a(f"{TEXTURES[scene.texture]} {scene.background} background.")
    listed = " and ".join(filter(None, (", ".join(nouns[:-1]), *nouns[-1:])))
    return sentence(f"{listed} on {ground}" if nouns else ground)


def _placed(scene: Scene, number: int, noun: str, marks: Iterable[Item | Dot]) -> str:
    """The noun with its number, and with its quadrant if all are in the same one."""
    spots = {scene.quadrant(mark.x, mark.y) for mark in marks}
    return _several(number, noun) + (f" in the {spots.pop()}" if len(spots) == 1 else "")


def _several(number: int, noun: str) -> str:
    return a(noun) if number == 1 else f"{COUNTS[number]} {plural(noun)}"
