"""Which column of the user's table is which thing: by what is stated, else by name. Near misses are errors."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from medstudy.data.readers.cells import RowError, filled, value
from medstudy.datasets.user.columns import Columns
from medstudy.errors import DataError

STANDARD = {"image": ("image", "file_name"), "images": ("images",), "question": ("question",), "answer": ("answer",),
            "options": ("options",), "kind": ("kind",), "group": ("group",), "split": ("split",)}
NAMES = [name for names in STANDARD.values() for name in names]
RESPELT = "by its name but for spelling"
CHOICES = re.compile(r"(?:answer)?(?:choices?|candidates|opts)")  # other names of the column of the options, folded
SERIES = re.compile(r"(|opt?|option|choice|candidate|answer)([a-j1-9])")  # A, B, …; option_1, option_2, …; opa, opb, …
WORDS = ("options", "kind", "group", "split")  # roles that a table may lack: a column that has one in its name is shown


@dataclass(frozen=True)
class Bound:
    """The columns of a table by what they are.

    how: a row {role, column, how} for each role and each column that is not read. near: of a role, columns whose names
    nearly are its own: a row that fills one of them instead is a fault.
    """

    columns: Columns
    how: list[dict] = field(default_factory=list)
    near: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def check(self, row: Mapping) -> None:
        """Raise RowError for a row that fills a column named nearly as a role's, and not the role's own."""
        for role, names in self.near.items():
            own = getattr(self.columns, role)
            if not filled(value(row, own)):
                for name in (name for name in names if filled(row.get(name))):
                    raise RowError("column name", f"{role} stands in the column {own!r}, but this row has {name!r}.")


def bound(columns: Columns, there: Collection[str], where: str, ask: str | None = None, unread: Collection[str] = (),
          usual: Collection[str] = (), rows: Sequence[Mapping] = ()) -> Bound:
    """The columns that a table has for each thing. Raises DataError naming one that it lacks, and what it has.

    A column is taken by its exact name, else by the only one that differs in case, blanks, marks or width of letters,
    which is noted. One that differs by a letter is an error for a role that has no column: it would be left out without
    a word. ask: the question of every row, where the table has none. unread: roles that are settled elsewhere, as the
    split by files. usual: columns that the table's form reads itself. rows: some, to look for entries as "a.b" in.
    """
    stated = columns.model_dump(exclude_none=True)
    listed = ", ".join(map(_quoted, there)) or "none"
    for role, names in stated.items():
        for name in _names(names) if role != "unused" else ():
            if name not in there and name.split(".")[0] not in there:
                like = [one for one in there if folded(one) == folded(name) or one_edit(folded(one), folded(name))]
                raise DataError(
                    f"Each of `columns` must be in the table, but {role} is {name!r} and {where} has {listed}. "
                    + (f"Is it {', '.join(map(repr, like))}?" if like else "Name one of these.")
                )
            if name not in there:
                _has_entry(rows, role, name, where)
    used = {name if name in there else name.split(".")[0] for names in stated.values() for name in _names(names)}
    free = [name for name in there if name not in used and name not in usual]
    roles = [role for role in STANDARD if role not in stated and role not in unread]
    if stated.keys() & {"image", "images"}:
        roles = [role for role in roles if role not in ("image", "images")]
    found = {role: name for role in roles if (name := _by_name(role, free, where))}
    if {"image", "images"} <= found.keys():
        raise DataError(
            f"A table has one column of images, but {where} has {found['image']!r} and {found['images']!r}. Say which "
            "of them it is, as `columns: {images: images}`."
        )
    free = [name for name in free if name not in found.values()]
    near = {role: _near(role, free) for role in roles}
    lacking = [role for role in roles if role not in found and not (role.startswith("image") and _imaged(found))]
    for role in lacking:
        if near[role]:
            raise DataError(
                f"The column of the {role} is named {' or '.join(map(repr, STANDARD[role]))}, and {where} has "
                f"{near[role][0]!r}. State `columns: {{{role}: {near[role][0]}}}` if it is this one, or "
                f"`columns: {{unused: [{near[role][0]}]}}` if it is something else."
            )
    made = columns.model_copy(update=found)
    for role, missing in (
        ("image", not (made.image or made.images)),
        ("question", not (made.question or ask)),
        ("answer", not made.answer),
    ):
        if missing:
            raise DataError(
                f"A table needs a column `{role}`, but {where} has {listed}. Say under "
                f"`columns` which of them it is{', or state `ask`' if role == 'question' else ''}."
            )
    if "options" in lacking and not usual:
        _refuse_series(free, rows, made.answer, where)
    return Bound(made, list(_how(stated, found, free, unread)), {role: near[role] for role in found if near[role]})


def misspelt(there: Collection[str], names: Collection[str], where: str, columns: Columns) -> None:
    """Raise DataError for a key that nearly is one of `names`, unless the params name it."""
    stated = {name for found in columns.model_dump(exclude_none=True).values() for name in _names(found)}
    for key in there:
        if key not in names and key not in stated and key not in NAMES:
            for name in names:
                if folded(key) == folded(name) or one_edit(folded(key), folded(name)):
                    raise DataError(
                        f"A row's keys are {', '.join(names)}, but {where} has {key!r}. Write {name!r}, or state "
                        f"`columns: {{unused: [{key}]}}` if it is something else."
                    )


def folded(name: str) -> str:
    """A name without what spelling programs change: case, blanks, width of letters, a byte-order mark, _ and -."""
    plain = unicodedata.normalize("NFKC", str(name)).casefold()
    return "".join(sign for sign in plain if sign not in "_-" and not sign.isspace() and _visible(sign))


def one_edit(a: str, b: str) -> bool:
    """Whether a sign left out, put in, changed, or two exchanged make one text of the other."""
    if a == b or abs(len(a) - len(b)) > 1 or min(len(a), len(b)) < 3:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def _has_entry(rows: Sequence[Mapping], role: str, name: str, where: str) -> None:
    """Raise DataError where some of `rows` have a mapping in the column of "a.b", and none has its entry."""
    head, _, rest = name.partition(".")
    inner = [row[head] for row in rows if isinstance(row.get(head), Mapping)]
    if inner and rest and not any(rest in one for one in inner):
        if any(rest.startswith(f"{key}.") for one in inner for key in one):
            _has_entry(inner, role, rest, f"{head} of {where}")
            return
        entries = ", ".join(dict.fromkeys(_quoted(key) for one in inner for key in one))
        raise DataError(
            f"The {role} is entry {rest!r} of {head}, but {head} of {where} has {entries}. Name one of them."
        )


def _visible(sign: str) -> bool:
    return unicodedata.category(sign) not in ("Cf", "Cc")


def _by_name(role: str, free: list[str], where: str) -> str | None:
    """The column that has a role's name, exactly or but for case and blanks. Raises DataError for two of these."""
    for name in STANDARD[role]:
        same = [one for one in free if folded(one) == folded(name)]
        if len(same) > 1:
            raise DataError(
                f"A column's name stands once in a table, but {where} has {', '.join(map(repr, same))}. State under "
                f"`columns` which is the {role}, and the other as `unused`; or rename it."
            )
        if same:
            return same[0]
    return None


def _near(role: str, free: list[str]) -> tuple[str, ...]:
    own = {folded(name) for name in STANDARD[role]}
    others = {folded(name) for name in NAMES} - own
    return tuple(
        one for one in free
        if folded(one) not in others and (any(one_edit(folded(one), name) for name in own)
                                          or (role == "options" and CHOICES.fullmatch(folded(one))))
    )


def _refuse_series(free: Sequence[str], rows: Sequence[Mapping], answer: str, where: str) -> None:
    """Raise DataError for columns A, B, … or option_1, option_2, … of which answers name one: all would be open."""
    series: dict[str, dict[str, str]] = {}  # stem: sign: column
    for name in free:
        if (found := SERIES.fullmatch(folded(name))) and (found[1] or found[2].isalpha()):
            series.setdefault(found[1], {})[found[2]] = name
    for signs in series.values():
        whole = signs.keys() >= {"a", "b"} or signs.keys() >= {"1", "2"}
        if whole and any(_names_one(row, signs, answer) for row in rows):
            listed = ", ".join(signs.values())
            raise DataError(
                f"Options stand in the column `options`, and {where} has {listed}, of which answers name one. State "
                f"`columns: {{options: [{listed}]}}` if they are the options, else `columns: {{unused: [{listed}]}}`."
            )


def _names_one(row: Mapping, signs: Mapping[str, str], answer: str) -> bool:
    """Whether a row's answer is the sign of one of these columns that the row fills, or its cell."""
    said, cells = value(row, answer), {sign: row[name] for sign, name in signs.items() if filled(row.get(name))}
    return filled(said) and (str(said).strip().lower() in cells or said in cells.values())


def _imaged(found: Mapping[str, str]) -> bool:
    return "image" in found or "images" in found


def _how(stated: Mapping, found: Mapping[str, str], free: list[str], unread: Collection[str]) -> Iterator[dict]:
    """{role, column, how} of every role that has a column, then of every column that is not read."""
    for role, names in stated.items():
        if names and role != "unused":
            yield {"role": role, "column": ", ".join(map(_quoted, _names(names))), "how": "stated"}
    for role, name in found.items():
        exact = name in STANDARD[role]
        yield {"role": role, "column": _quoted(name), "how": "by its name" if exact else RESPELT}
    for name in (*free, *stated.get("unused", ())):
        settled = {*found, *stated, *unread}
        like = [role for role in WORDS if role in folded(name) and role not in settled]
        how = f"not read; state it under `columns` if it is the {like[0]}" if like else "not read"
        yield {"role": "", "column": _quoted(name), "how": how}


def _quoted(name: str) -> str:
    """A name as it is, or in quotes where blanks or signs that are not seen would hide."""
    plain = name and name == name.strip() and all(map(_visible, name))
    return name if plain else repr(name)


def _names(names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names.values()) if isinstance(names, Mapping) else tuple(names)
