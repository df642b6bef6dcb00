"""The random scene of an image of the general corpus, which is drawn before any pixel."""

from __future__ import annotations

from dataclasses import dataclass
from math import dist, hypot
from random import Random

from medstudy.datasets.shapes.words import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    LETTERS,
    QUADRANTS,
    SHAPES,
    SIDES,
    TEXTURES,
    TONES,
    WORDS,
)

Rgb = tuple[int, int, int]
Palette = list[tuple[str, Rgb]]
Line = tuple[float, float, float, float, float]  # x0, y0, x1, y1, thickness in px
TOKEN = 28  # px of a visual token; sides are multiples of it, so no policy resamples an image
SIDES_IN_TOKENS = range(2, 7)
DOT_NUMBERS = (0.40, 0.25, 0.07, 0.07, 0.07, 0.07, 0.07)  # share of scenes with 0, 1, ... dots
ASPECT = 2.5  # largest aspect ratio of a canvas
GRAY_SHARE = 0.35  # share of scenes without colours, only bright and dark
BLURS = (0, 0, 0, 0.6, 1.0)  # px, of the edges of shapes
CONTRAST = 95.0  # least distance in RGB between a shape, dot, line or letter and what is behind it


@dataclass(frozen=True)
class Item:
    """A shape; centre and radius in pixels."""

    shape: str
    colour: str
    rgb: Rgb
    x: float
    y: float
    radius: float
    alpha: float = 1.0
    aspect: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Dot:
    """A small disc; `host` is the index of the item that contains it, None on the background."""

    x: float
    y: float
    diameter: float
    host: int | None


@dataclass(frozen=True)
class Marks:
    """Dots, lines or letters of one colour."""

    colour: str
    rgb: Rgb


@dataclass(frozen=True)
class Recipe:
    """The odds of a kind of scene: its textures, the number of items, and its dots, lines or word."""

    weight: float
    textures: tuple[str, ...]
    items: tuple[int, int]
    shapes: tuple[str, ...] = SHAPES
    amplitude: tuple[float, float] = (8.0, 22.0)
    extra: str = ""


PLAIN = ("smooth", "gradient", "clouds", "fine grain")
RECIPES = {
    "shapes": Recipe(0.36, tuple(TEXTURES), (1, 6), amplitude=(8.0, 18.0)),
    "ellipses": Recipe(0.10, PLAIN, (1, 4), shapes=("ellipse", "circle", "ring")),
    "dots": Recipe(0.28, PLAIN, (0, 2), shapes=("circle", "square", "ellipse"), extra="dots"),
    "lines": Recipe(0.08, (*PLAIN, "coarse grain"), (0, 1), extra="lines"),
    "word": Recipe(0.10, tuple(TEXTURES), (0, 0), amplitude=(8.0, 18.0), extra="word"),
    "texture": Recipe(0.08, tuple(TEXTURES), (0, 1), amplitude=(14.0, 40.0)),
}

EVEN = ("smooth",)
PLAIN_RECIPES = {  # one object at a time, easily seen: the start of a curriculum
    "shapes": Recipe(0.45, EVEN, (1, 2)),
    "dots": Recipe(0.25, (*EVEN, "fine grain"), (0, 1), shapes=("circle", "square", "ellipse"), extra="dots"),
    "lines": Recipe(0.10, EVEN, (0, 0), extra="lines"),
    "texture": Recipe(0.20, tuple(TEXTURES), (0, 0), amplitude=(14.0, 40.0)),
}
PLAIN_TOKENS = 9  # at most, of a plain canvas


@dataclass(frozen=True)
class Scene:
    """Everything that the questions and the renderer know about an image."""

    recipe: str
    height: int
    width: int
    gray: bool
    background: str
    base: Rgb
    texture: str
    direction: str  # of stripes; the brighter side of a gradient
    amplitude: float  # of the texture, gray levels
    blur: float  # px, of the shapes' edges
    items: tuple[Item, ...]
    marks: Marks
    dots: tuple[Dot, ...]
    lines: tuple[Line, ...]
    line_direction: str
    word: str
    capitals: bool

    def quadrant(self, x: float, y: float) -> str:
        return QUADRANTS[2 * (y > self.height / 2) + (x > self.width / 2)]


def compose(rng: Random, plain: bool = False, size: tuple[int, int] | None = None) -> Scene:
    """A random scene: recipe, canvas, background, items, then the recipe's dots, lines or word.

    size: height and width of the canvas, px; None: small ones of 56 to 168 px a side.
    """
    recipes = PLAIN_RECIPES if plain else RECIPES
    name = rng.choices(list(recipes), [recipe.weight for recipe in recipes.values()])[0]
    recipe, (height, width) = recipes[name], size or _size(rng, PLAIN_TOKENS if plain else _tokens(rng))
    gray, texture = rng.random() < GRAY_SHARE, rng.choice(recipe.textures)
    background = rng.choice(("gray", "gray", "white", "black") if gray else list(BACKGROUNDS))
    base = _jitter(BACKGROUNDS[background], rng, 10, gray)
    palette = [(colour, rgb) for colour, rgb in (TONES if gray else COLOURS).items()
               if colour != background and dist(rgb, base) > CONTRAST + 35]
    items = _items(rng, recipe, height, width, palette, gray, translucent=name == "ellipses")
    marks = _marks(rng, palette, items, gray, base)
    line_direction = rng.choice(DIRECTIONS)
    return Scene(
        name, height, width, gray, background, base, texture,
        direction=rng.choice(SIDES if texture == "gradient" else DIRECTIONS),
        amplitude=_amplitude(rng, recipe, marks, base),
        blur=rng.choice(BLURS),
        items=items,
        marks=marks,
        dots=_dots(rng, items, marks, height, width) if recipe.extra == "dots" else (),
        lines=_lines(rng, line_direction, height, width) if recipe.extra == "lines" else (),
        line_direction=line_direction,
        word=rng.choice((rng.choice(WORDS), rng.choice(LETTERS))) if recipe.extra == "word" else "",
        capitals=rng.random() < 0.5,
    )


def _tokens(rng: Random) -> int:
    """The largest number of tokens: 16 nine times in ten, else 25."""
    return 16 if rng.random() < 0.9 else 25


def _size(rng: Random, limit: int) -> tuple[int, int]:
    """Height and width, 56..168 px, of at most `limit` tokens."""
    while True:
        rows, columns = rng.choice(SIDES_IN_TOKENS), rng.choice(SIDES_IN_TOKENS)
        if rows * columns <= limit and max(rows, columns) <= ASPECT * min(rows, columns):
            return rows * TOKEN, columns * TOKEN


def _jitter(rgb: Rgb, rng: Random, spread: int, gray: bool) -> Rgb:
    shift = rng.randint(-spread, spread)
    shifts = (shift,) * 3 if gray else tuple(rng.randint(-spread, spread) for _ in range(3))
    return tuple(min(max(value + change, 0), 255) for value, change in zip(rgb, shifts, strict=True))


def _items(rng: Random, recipe: Recipe, height: int, width: int, palette: Palette, gray: bool,
           translucent: bool) -> tuple[Item, ...]:
    """Up to the drawn number of items, apart from each other (ellipses may overlap) and from the middle lines."""
    number, side, placed = rng.randint(*recipe.items), min(height, width), []
    low, high = (0.09, 0.14) if number > 3 else (0.09, 0.24)
    low, high = (0.16, 0.28) if recipe.extra == "dots" or translucent else (low, high)
    kinds = [(rng.choice(recipe.shapes), *rng.choice(palette)) for _ in range(rng.choice((1, 2, 3, 6)))]
    for _ in range(number):
        shape, colour, rgb = rng.choice(kinds)
        radius = max(rng.uniform(low, high) * side, 5.0)
        spot = _spot(rng, height, width, radius, placed, gap=0.55 if translucent else 1.15)
        if spot:
            alpha = rng.uniform(0.55, 0.85) if translucent else 1.0
            aspect = rng.uniform(0.55, 0.7) if shape == "ellipse" else 1.0
            placed.append(Item(shape, colour, _jitter(rgb, rng, 10, gray), *spot, radius, alpha, aspect))
    return tuple(placed)


def _spot(rng: Random, height: int, width: int, radius: float, placed: list[Item],
          gap: float) -> tuple[float, float] | None:
    """A centre whose disc is in the image, clear of the placed items and of both middle lines, or None."""
    for _ in range(30):
        x, y = rng.uniform(radius + 1, width - radius - 1), rng.uniform(radius + 1, height - radius - 1)
        central = abs(x - width / 2) < 0.06 * width or abs(y - height / 2) < 0.06 * height
        if not central and all(hypot(x - other.x, y - other.y) > gap * (radius + other.radius) for other in placed):
            return x, y
    return None


def _marks(rng: Random, palette: Palette, items: tuple[Item, ...], gray: bool, base: Rgb) -> Marks:
    """A colour that contrasts with the background and, if possible, with every item; tones may be faint."""
    strength = rng.uniform(0.6, 1.0) if gray else 1.0
    shades = [(colour, tuple(round(b + strength * (v - b)) for v, b in zip(rgb, base, strict=True)))
              for colour, rgb in palette]
    clear = [shade for shade in shades if all(dist(shade[1], item.rgb) > CONTRAST for item in items)]
    colour, rgb = rng.choice(clear or shades)
    return Marks(colour, _jitter(rgb, rng, 8, gray))


def _amplitude(rng: Random, recipe: Recipe, marks: Marks, base: Rgb) -> float:
    """The texture's amplitude; behind dots and lines at most an eighth of their contrast."""
    drawn = rng.uniform(*recipe.amplitude)
    return min(drawn, dist(marks.rgb, base) / 3**0.5 / 8) if recipe.extra in ("dots", "lines") else drawn


def _dots(rng: Random, items: tuple[Item, ...], marks: Marks, height: int, width: int) -> tuple[Dot, ...]:
    """0 to 6 dots of one size, often none and often one: in the items, outside them, or both."""
    number, diameter, placed = rng.choices(range(7), DOT_NUMBERS)[0], rng.uniform(1.5, 6.0), []
    hosts = [index for index, item in enumerate(items)
             if item.colour != marks.colour and dist(item.rgb, marks.rgb) > CONTRAST - 15]
    share = rng.choice((0.0, 0.5, 1.0, 1.0)) if hosts else 0.0
    for _ in range(300):
        if len(placed) == number:
            break
        host = rng.choice(hosts) if rng.random() < share else None
        if host is None:
            dot = _outside(rng, items, diameter, height, width)
        else:
            dot = _inside(rng, items[host], host, diameter)
        central = abs(dot.x - width / 2) < 0.05 * width or abs(dot.y - height / 2) < 0.05 * height
        if not central and all(hypot(dot.x - other.x, dot.y - other.y) > 2 * diameter + 3 for other in placed):
            placed.append(dot)
    return tuple(placed)


def _inside(rng: Random, item: Item, host: int, diameter: float) -> Dot:
    reach = 0.6 * item.radius * min(item.aspect, 0.85) - diameter / 4
    return Dot(item.x + rng.uniform(-reach, reach), item.y + rng.uniform(-reach, reach), diameter, host)


def _outside(rng: Random, items: tuple[Item, ...], diameter: float, height: int, width: int) -> Dot:
    edge = diameter / 2 + 2
    while True:
        x, y = rng.uniform(edge, width - edge), rng.uniform(edge, height - edge)
        if all(hypot(x - item.x, y - item.y) > item.radius * 1.2 + edge for item in items):
            return Dot(x, y, diameter, None)


def _lines(rng: Random, direction: str, height: int, width: int) -> tuple[Line, ...]:
    """0 to 4 parallel lines of one thickness, 1 to 3 px."""
    slopes = {"horizontal": (1, 0), "vertical": (0, 1), "diagonal": (0.71, rng.choice((0.71, -0.71)))}
    dx, dy = slopes[direction]
    side, thickness, lines = min(height, width), rng.uniform(1.0, 3.0), []
    for slot in rng.sample((-0.33, -0.11, 0.11, 0.33), rng.choice((0, 0, 1, 2, 3, 4))):
        offset, half = (slot + rng.uniform(-0.03, 0.03)) * side, rng.uniform(0.22, 0.42) * side
        x, y = width / 2 - dy * offset, height / 2 + dx * offset
        lines.append((x - dx * half, y - dy * half, x + dx * half, y + dy * half, thickness))
    return tuple(lines)
