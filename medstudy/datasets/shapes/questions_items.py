"""Questions about the shapes of a scene: presence, colour, kind, place, size and number."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from random import Random

from medstudy.data.example import Question
from medstudy.datasets.shapes.questions import coin, name_it, palette, pick, unique, writes, yes_no
from medstudy.datasets.shapes.scene import Item, Scene
from medstudy.datasets.shapes.words import HALVES, NUMERALS, QUADRANTS, RELATIONS, SHAPES, a, plural

NAME = attrgetter("name")
CLEARLY = 1.3  # a ratio of radii that leaves no doubt which is larger
APART = 0.15  # of the image's side: a distance that leaves no doubt which is to the left


@writes("presence")
def _any_shape(scene: Scene, rng: Random) -> Question | None:
    """Scenes with shapes are more frequent, so the question is asked of fewer of them."""
    wanted = rng.random() < (0.2 if scene.items else 0.3)
    return yes_no("any_shape", "presence", bool(scene.items), rng) if wanted else None


@writes("presence", 2.0)
def _item_present(scene: Scene, rng: Random) -> Question | None:
    """A combination that is present, or one that is absent and usually shares its shape or colour with an item."""
    if not scene.items:
        return None
    there, item = {item.name for item in scene.items}, rng.choice(scene.items)
    if coin(rng):
        return yes_no("item_present", "presence", True, rng, an_item=a(item.name))
    shape, colour = rng.choice(((item.shape, None), (None, item.colour), (None, None)))
    names = [f"{c} {s}" for c in palette(scene) for s in SHAPES if shape in (None, s) and colour in (None, c)]
    absent = [name for name in names if name not in there]
    return yes_no("item_present", "presence", False, rng, an_item=a(rng.choice(absent))) if absent else None


@writes("presence")
def _shape_present(scene: Scene, rng: Random) -> Question | None:
    there, yes = {item.shape for item in scene.items}, coin(rng)
    pool = [shape for shape in SHAPES if (shape in there) == yes]
    return yes_no("shape_present", "presence", yes, rng, a_shape=a(rng.choice(pool))) if there and pool else None


@writes("presence")
def _colour_present(scene: Scene, rng: Random) -> Question | None:
    there, yes = {item.colour for item in scene.items}, coin(rng)
    pool = [colour for colour in palette(scene) if (colour in there) == yes]
    colour = rng.choice(pool) if there and pool else None
    return yes_no("colour_present", "presence", yes, rng, a_colour=a(colour), colour=colour) if colour else None


@writes("position", 0.7)
def _relation(scene: Scene, rng: Random) -> Question | None:
    pool = unique(scene, NAME)
    if len(pool) < 2:
        return None
    first, second = rng.sample(pool, 2)
    across, down = (first.x - second.x) / scene.width, (first.y - second.y) / scene.height
    signed = dict(zip(RELATIONS, (-across, across, -down, down), strict=True))
    clear = [relation for relation, gap in signed.items() if abs(gap) > APART]
    relation = rng.choice(clear) if clear else None
    fields = {"item": first.name, "relation": relation, "other": second.name}
    return yes_no("relation", "position", signed[relation] > 0, rng, **fields) if relation else None


@writes("position", 1.5)
def _half(scene: Scene, rng: Random) -> Question | None:
    if not (item := pick(scene, rng, NAME)):
        return None
    half = rng.choice(HALVES)
    far = item.y > scene.height / 2 if half in ("upper", "lower") else item.x > scene.width / 2
    return yes_no("half", "position", far == (half in ("right", "lower")), rng, item=item.name, half=half)


@writes("position", 3.0)
def _where(scene: Scene, rng: Random) -> Question | None:
    if not (item := pick(scene, rng, NAME)):
        return None
    return name_it("where", "position", scene.quadrant(item.x, item.y), QUADRANTS, rng, item=item.name)


@writes("position", 1.5)
def _at(scene: Scene, rng: Random) -> Question | None:
    """The kind or the colour of the only shape in a quadrant."""
    if not (item := pick(scene, rng, lambda item: scene.quadrant(item.x, item.y))):
        return None
    key, answer, words = "shape_at", item.shape, SHAPES
    if not scene.gray and coin(rng):
        key, answer, words = "colour_at", item.colour, palette(scene)
    return name_it(key, "position", answer, words, rng, quadrant=scene.quadrant(item.x, item.y))


@writes("comparison", 0.5)
def _same(scene: Scene, rng: Random) -> Question | None:
    """Are all the same? "Yes" is more frequent in small scenes, so some of those are skipped."""
    if len(scene.items) < 2:
        return None
    key, values, kept = rng.choice((("same_colour", {item.colour for item in scene.items}, 0.55),
                                    ("same_shape", {item.shape for item in scene.items}, 0.95)))
    yes = len(values) == 1
    return yes_no(key, "comparison", yes, rng) if not yes or rng.random() < kept else None


@writes("colour", 1.5)
def _colour(scene: Scene, rng: Random) -> Question | None:
    item = pick(scene, rng, attrgetter("shape"))
    key = "tone" if scene.gray else "colour"
    return name_it(key, "colour", item.colour, palette(scene), rng, shape=item.shape) if item else None


@writes("shape", 1.5)
def _shape(scene: Scene, rng: Random) -> Question | None:
    item = pick(scene, rng, attrgetter("colour"))
    return name_it("shape", "shape", item.shape, SHAPES, rng, colour=item.colour) if item else None


@writes("comparison", 1.5)
def _extreme(scene: Scene, rng: Random) -> Question | None:
    """The colour or kind of the largest shape, or the kind of the smallest, if no other shape is close in size."""
    ranked = sorted(scene.items, key=lambda item: -item.radius)
    if len(ranked) < 2:
        return None
    asks: list[tuple[str, Item]] = []
    if ranked[0].radius > CLEARLY * ranked[1].radius:
        asks += [(key, ranked[0]) for key in ("largest_shape", "largest_colour")[: 1 if scene.gray else 2]]
    if ranked[-2].radius > CLEARLY * ranked[-1].radius:
        asks += [("smallest_shape", ranked[-1])]
    if not asks:
        return None
    key, item = rng.choice(asks)
    answer, pool = (item.colour, palette(scene)) if key == "largest_colour" else (item.shape, SHAPES)
    return name_it(key, "comparison", answer, pool, rng)


@writes("comparison", 0.7)
def _larger(scene: Scene, rng: Random) -> Question | None:
    pool = unique(scene, NAME)
    pairs = [(p.name, q.name) for p in pool for q in pool if p.radius > CLEARLY * q.radius]
    if not pairs:
        return None
    answer, other = rng.choice(pairs)
    first, second = rng.sample((answer, other), 2)
    return name_it("larger", "comparison", answer, (first, second), rng, item=first, other=second)


@writes("count", 2.0)
def _count(scene: Scene, rng: Random) -> Question | None:
    """The number of shapes, of one kind or of one colour; larger numbers are preferred because they are rarer."""
    if not scene.items and rng.random() > 0.15:
        return None
    kinds, colours = Counter(item.shape for item in scene.items), Counter(item.colour for item in scene.items)
    absent = rng.choice([shape for shape in SHAPES if shape not in kinds])
    asks = [("count_shapes", len(scene.items), {}), ("count_kind", 0, {"shapes": plural(absent)})]
    asks += [("count_kind", number, {"shapes": plural(shape)}) for shape, number in kinds.items()]
    asks += [("count_colour", number, {"colour": colour}) for colour, number in colours.items()]
    key, number, fields = rng.choices(asks, [number**1.5 or 0.3 for _, number, _ in asks])[0]
    return name_it(key, "count", str(number), NUMERALS, rng, **fields)
