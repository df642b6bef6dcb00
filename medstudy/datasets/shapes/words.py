"""The words of the general corpus: names, question templates, and their expansion for a tokenizer."""

from __future__ import annotations

from itertools import cycle, islice
from random import Random
from string import Formatter, ascii_lowercase

COLOURS = {
    "red": (212, 36, 40), "green": (44, 160, 60), "blue": (48, 84, 216), "yellow": (238, 216, 44),
    "orange": (242, 134, 26), "purple": (132, 48, 168), "pink": (246, 150, 190), "brown": (124, 76, 40),
    "cyan": (60, 204, 214), "white": (244, 244, 244), "black": (14, 14, 14),
}
TONES = {"bright": (232, 232, 232), "dark": (28, 28, 28)}
BACKGROUNDS = {
    "gray": (128, 128, 128), "white": (232, 232, 232), "black": (26, 26, 26), "blue": (150, 176, 226),
    "green": (158, 206, 158), "pink": (240, 196, 212), "yellow": (238, 230, 168), "purple": (190, 164, 216),
}
SHAPES = ("circle", "square", "triangle", "ring", "star", "cross", "ellipse")
TEXTURES = {  # class name -> how a description calls the background
    "smooth": "smooth", "gradient": "shaded", "fine grain": "noisy", "coarse grain": "grainy",
    "clouds": "cloudy", "stripes": "striped", "dots": "dotted", "checks": "checked",
}
GRAINS = {"fine grain": "fine", "coarse grain": "coarse"}
NOISY, QUIET = ("fine grain", "coarse grain"), ("smooth", "gradient")
DIRECTIONS = ("horizontal", "vertical", "diagonal")
SIDES = ("left", "right", "top", "bottom")
QUADRANTS = ("upper left", "upper right", "lower left", "lower right")
HALVES = ("left", "right", "upper", "lower")
RELATIONS = ("to the left of", "to the right of", "above", "below")
NUMERALS = ("0", "1", "2", "3", "4", "5", "6")
COUNTS = ("no", "a", "two", "three", "four", "five", "six")
WORDS = (
    "sun", "sea", "map", "bus", "key", "hat", "box", "dog", "cat", "fox", "car", "cup", "door", "tree",
    "fish", "bird", "road", "wind", "lamp", "book", "coin", "rain", "ship", "moon", "milk", "park", "stop",
    "open", "exit", "shop", "river", "house", "bread", "chair", "table", "clock", "paper", "glass", "train",
    "apple",
)
LETTERS = tuple(ascii_lowercase)

TEMPLATES = {
    "any_shape": ("Is there any shape in the image?", "Is a shape present?"),
    "item_present": ("Is there {an_item}?", "Does the image show {an_item}?", "Is {an_item} present?"),
    "shape_present": ("Is there {a_shape}?", "Is {a_shape} present?", "Does the image contain {a_shape}?"),
    "colour_present": ("Is there {a_colour} shape?", "Is {a_colour} shape present?"),
    "relation": ("Is the {item} {relation} the {other}?",),
    "half": ("Is the {item} in the {half} half of the image?", "Is the {item} on the {half} side?"),
    "same_colour": ("Are all shapes the same colour?", "Do all shapes have the same colour?"),
    "same_shape": ("Do all objects have the same shape?", "Are all shapes of the same kind?"),
    "noisy": ("Is the background noisy?", "Is there noise in the image?"),
    "texture_present": ("Is the background {adjective}?", "Does the image have a {adjective} background?"),
    "dot_present": ("Is there a small dot?", "Are there any small dots?", "Are small dots present?"),
    "dot_colour_present": ("Is there a small {colour} dot?", "Are there small {colour} dots?"),
    "dot_inside": ("Is there a small dot inside the {item}?", "Does the {item} contain a small dot?"),
    "where_dots": ("Where are the small dots?", "In which part of the image are the small dots?"),
    "line_present": ("Is there a line?", "Is a thin line visible in the image?"),
    "word_present": ('Is the word "{word}" written?', 'Does the image say "{word}"?'),
    "letter_present": ('Is the letter "{word}" written?', 'Does the image show the letter "{word}"?'),
    "colour": ("What colour is the {shape}?", "What is the colour of the {shape}?"),
    "tone": ("Is the {shape} bright or dark?",),
    "largest_colour": ("What colour is the largest shape?", "What is the colour of the largest object?"),
    "largest_shape": ("Which shape is the largest?", "What is the largest shape?"),
    "smallest_shape": ("Which shape is the smallest?", "What is the smallest shape?"),
    "larger": ("Which is larger, the {item} or the {other}?", "Which is bigger, the {item} or the {other}?"),
    "shape": ("Which shape is {colour}?", "What is the shape of the {colour} object?"),
    "shape_at": ("Which shape is shown in the {quadrant}?", "What is in the {quadrant} of the image?"),
    "colour_at": ("What colour is the shape in the {quadrant}?",),
    "where": ("Where is the {item}?", "Where is the {item} located?", "In which part is the {item}?"),
    "where_dot": ("Where is the small dot?", "Where is the small dot located?", "In which part is the dot?"),
    "dot_colour": ("What colour is the small dot?", "What colour are the small dots?"),
    "dot_tone": ("Is the small dot bright or dark?", "Are the small dots bright or dark?"),
    "read": ("What is written in the image?", "Which word or letter is shown?", "What does the text say?"),
    "text_colour": ("What colour is the text?",),
    "line_direction": ("What is the direction of the line?", "How does the line run?"),
    "stripe_direction": ("What is the direction of the stripes?", "How do the stripes run?"),
    "brighter_side": ("Which side of the image is brighter?", "Where is the background brightest?"),
    "background": ("What colour is the background?", "What is the colour of the background?"),
    "count_shapes": ("How many shapes are there?", "How many shapes are shown?"),
    "count_kind": ("How many {shapes} are there?", "How many {shapes} are shown?"),
    "count_colour": ("How many {colour} shapes are there?", "How many shapes are {colour}?"),
    "count_dots": ("How many small dots are there?", "What is the number of small dots?"),
    "count_lines": ("How many lines are there?", "How many lines are shown?"),
    "count_letters": ("How many letters are written?",),
    "grain": ("Is the grain fine or coarse?", "Which grain does the background have?"),
    "background_tone": ("Is the background bright or dark?", "Which tone does the background have?"),
    "texture": ("What kind of texture is shown?", "Which texture does the background have?"),
    "description": ("Describe the image.", "Provide a description of the image.", "What is shown?"),
}


def ask(key: str, rng: Random, **fields: str) -> str:
    """One of the phrasings of the question `key`, filled in."""
    return rng.choice(TEMPLATES[key]).format(**fields)


def a(noun: str) -> str:
    """The noun with its indefinite article: "a ring", "an orange star"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """The noun in the plural: "rings", "crosses"."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]


def vocabulary() -> list[str]:
    """All templates and forms of answers, filled so that each word is in each position; without repeats."""
    colours = (*COLOURS, *TONES)
    items = [f"{colour} {shape}" for colour in colours for shape in SHAPES]
    values = {
        "item": items, "other": items[5:] + items[:5], "an_item": [a(item) for item in items],
        "shape": SHAPES, "a_shape": [a(shape) for shape in SHAPES],
        "shapes": [plural(shape) for shape in SHAPES],
        "colour": colours, "a_colour": [a(colour) for colour in colours],
        "relation": RELATIONS, "half": HALVES, "quadrant": QUADRANTS, "word": (*WORDS, *LETTERS),
        "adjective": tuple(TEXTURES.values()),
    }
    questions = [line for group in TEMPLATES.values() for template in group for line in _filled(template, values)]
    answers = [*colours, *BACKGROUNDS, *SHAPES, *items, *TEXTURES, *GRAINS.values(), *DIRECTIONS, *SIDES,
               *QUADRANTS, *NUMERALS, *WORDS, *LETTERS, *"ABCD", "yes", "no"]
    return list(dict.fromkeys([*questions, *answers, *_descriptions(items, colours)]))


def _filled(template: str, values: dict) -> list[str]:
    """The template once for each word of its longest field, the shorter fields repeated in turn."""
    fields = [field for _, field, _, _ in Formatter().parse(template) if field]
    length = max((len(values[field]) for field in fields), default=1)
    columns = [list(islice(cycle(values[field]), length)) for field in fields]
    return [template.format(**{field: column[row] for field, column in zip(fields, columns, strict=True)})
            for row in range(length)]


def _descriptions(items: list[str], colours: tuple[str, ...]) -> list[str]:
    """Descriptions of each form, with all items, colours, words and backgrounds in turn."""
    grounds = [f"{a(texture)} {colour} background." for texture in TEXTURES.values() for colour in BACKGROUNDS]
    counts, dot = cycle(COUNTS[2:]), cycle(f"small {colour} dot" for colour in colours)
    things = [f"{a(item)}, {next(counts)} {plural(other)} and {next(counts)} {plural(next(dot))}"
              for item, other in zip(items, items[8:] + items[:8], strict=True)]
    things += [f"{next(counts)} {plural(item)}, {next(counts)} {plural(other)} and {a(next(dot))}"
               for item, other in zip(items, items[4:] + items[:4], strict=True)]
    things += [f"{next(counts)} shapes and {a(direction)} {colour} line"
               for direction in DIRECTIONS for colour in colours]
    things += [f"{next(counts)} {direction} {colour} lines" for direction in DIRECTIONS for colour in colours]
    things += [f'the word "{word}" in {colour}' for word, colour in zip(WORDS, cycle(colours), strict=False)]
    things += [f'the letter "{letter}" in {colour}' for letter, colour in zip(LETTERS, cycle(colours), strict=False)]
    placed = [sentence(f"{thing} on {ground}") for thing, ground in zip(things, cycle(grounds), strict=False)]
    return placed + [sentence(ground) for ground in grounds]
