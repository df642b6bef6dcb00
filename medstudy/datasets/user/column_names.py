"""Finds the column of each role in the user's table: as the params state, else by name. Near misses are errors."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from medstudy.data.readers.cells import RowError, filled, value
from medstudy.datasets.user.columns import NAMES, Columns
from medstudy.errors import DataError

ALL_NAMES = [name for names in NAMES.values() for name in names]
RESPELT = "by its name but for spelling"
CHOICES = re.compile(r"(?:answer)?(?:choices?|candidates|opts)")  # other names for the column of the options, folded
SERIES = re.compile(r"(|opt?|option|choice|candidate|answer)([a-j1-9])")  # A, B, …; option_1, option_2, …; opa, opb, …
OPTIONAL = ("options", "kind", "group", "split")  # a column that contains one of these is pointed out


@dataclass(frozen=True)
class FoundColumns:
    """The columns of a table by role.

    how: rows {role, column, how} that say how each role's column was found, and which columns are not read. near: for
    each role, columns with similar names: a row that fills one of them instead is faulty.
    """

    columns: Columns
    how: list[dict] = field(default_factory=list)
    near: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def check(self, row: Mapping) -> None:
        """Raise RowError for a row that fills a similarly named column instead of a role's own."""
        for role, names in self.near.items():
            own = getattr(self.columns, role)
            if not filled(value(row, own)):
                for name in (name for name in names if filled(row.get(name))):
                    raise RowError("column name", f"The {role} must be in {own!r}, but this row has {name!r}. Fix it.")


def find(columns: Columns, table: Collection[str], where: str, ask: str | None = None, unread: Collection[str] = (),
         usual: Collection[str] = (), rows: Sequence[Mapping] = ()) -> FoundColumns:
    """The table's column of each role. Raises DataError naming a missing column, and the columns that exist.

    A column is found by its exact name, else by the only name that differs in case, spaces, - and _ or character width;
    the result notes that. If a role has no column, one that differs by a letter is an error, because the role would be
    left out silently.

    table: names of the table's columns. ask: the question of every row, if the table has none. unread: roles that are
    settled elsewhere, such as the split by files. usual: columns that the table's form itself reads. rows: examples in
    which to look for entries "a.b".
    """
    stated = columns.model_dump(exclude_none=True)
    listed = ", ".join(map(_quoted, table)) or "none"
    _check_stated(stated, table, where, listed, rows)
    # roles that are not stated, by the names of the columns that are left
    used = {name if name in table else name.split(".")[0] for names in stated.values() for name in _names(names)}
    free = [name for name in table if name not in used and name not in usual]
    roles = [role for role in NAMES if role not in stated and role not in unread]
    if stated.keys() & {"image", "images"}:
        roles = [role for role in roles if role not in ("image", "images")]
    by_name = {role: name for role in roles if (name := _by_name(role, free, where))}
    if {"image", "images"} <= by_name.keys():
        raise DataError(
            f"A table must have one column of images, but {where} has {by_name['image']!r} and {by_name['images']!r}. "
            "State which of them it is, for example `columns: {images: images}`."
        )
    # near misses
    free = [name for name in free if name not in by_name.values()]
    near = {role: _similar(role, free) for role in roles}
    lacking = [role for role in roles if role not in by_name]
    if by_name.keys() & {"image", "images"}:
        lacking = [role for role in lacking if role not in ("image", "images")]
    for role in lacking:
        if near[role]:
            raise DataError(
                f"The column of the {role} must be named {' or '.join(map(repr, NAMES[role]))}, but {where} has "
                f"{near[role][0]!r}. State `columns: {{{role}: {near[role][0]}}}` if it is this one, or "
                f"`columns: {{unused: [{near[role][0]}]}}` if it is something else."
            )
    # required columns, and options that would be overlooked
    complete = columns.model_copy(update=by_name)
    _check_required(complete, ask, where, listed)
    if "options" in lacking and not usual:
        _refuse_series(free, rows, complete.answer, where)
    how = list(_how(stated, by_name, free, unread))
    return FoundColumns(complete, how, {role: near[role] for role in by_name if near[role]})


def refuse_misspelt(keys: Collection[str], names: Collection[str], where: str, columns: Columns) -> None:
    """Raise DataError for a key that is nearly one of `names`, unless the params state its role."""
    stated = {name for names in columns.model_dump(exclude_none=True).values() for name in _names(names)}
    for key in keys:
        if key not in names and key not in stated and key not in ALL_NAMES:
            for name in names:
                if _alike(key, name):
                    raise DataError(
                        f"A row's keys must be of {', '.join(names)}, but {where} has {key!r}. Write {name!r}, or "
                        f"state `columns: {{unused: [{key}]}}` if it is something else."
                    )


def folded(name: str) -> str:
    """A name without what programs change in spelling: case, spaces, character width, a byte-order mark, _ and -."""
    plain = unicodedata.normalize("NFKC", str(name)).casefold()
    return "".join(sign for sign in plain if sign not in "_-" and not sign.isspace() and _visible(sign))


def one_edit(a: str, b: str) -> bool:
    """Whether texts differ by one character left out, inserted or changed, or by two exchanged."""
    if a == b or abs(len(a) - len(b)) > 1 or min(len(a), len(b)) < 3:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def _alike(a: str, b: str) -> bool:
    return folded(a) == folded(b) or one_edit(folded(a), folded(b))


def _check_stated(stated: Mapping, table: Collection[str], where: str, listed: str, rows: Sequence[Mapping]) -> None:
    """Raise DataError for a stated column, or entry of a column, that the table lacks."""
    for role, names in stated.items():
        for name in _names(names) if role != "unused" else ():
            if name in table:
                continue
            if name.split(".")[0] in table:
                _check_entry(rows, role, name, where)
                continue
            alike = [other for other in table if _alike(other, name)]
            raise DataError(
                f"Each of `columns` must be in the table, but {role} is {name!r} and {where} has {listed}. "
                + (f"Is it {', '.join(map(repr, alike))}?" if alike else "Name one of these.")
            )


def _check_required(columns: Columns, ask: str | None, where: str, listed: str) -> None:
    """Raise DataError for a table without an image, a question or an answer."""
    for role, present in (
        ("image", columns.image or columns.images),
        ("question", columns.question or ask),
        ("answer", columns.answer),
    ):
        if not present:
            raise DataError(
                f"A table needs a column `{role}`, but {where} has {listed}. State under `columns` which of them it "
                f"is{', or state `ask`' if role == 'question' else ''}."
            )


def _check_entry(rows: Sequence[Mapping], role: str, name: str, where: str) -> None:
    """Raise DataError if some of `rows` have a mapping in the column of "a.b", but none has the entry b."""
    head, _, rest = name.partition(".")
    inner = [row[head] for row in rows if isinstance(row.get(head), Mapping)]
    if inner and rest and not any(rest in entry for entry in inner):
        if any(rest.startswith(f"{key}.") for entry in inner for key in entry):
            _check_entry(inner, role, rest, f"{head} of {where}")
            return
        entries = ", ".join(dict.fromkeys(_quoted(key) for entry in inner for key in entry))
        raise DataError(f"The {role} is entry {rest!r} of {head}, but {head} of {where} has {entries}. Name one.")


def _visible(sign: str) -> bool:
    return unicodedata.category(sign) not in ("Cf", "Cc")


def _by_name(role: str, free: list[str], where: str) -> str | None:
    """The column with a role's name, apart from case and spaces. Raises DataError for two of these."""
    for name in NAMES[role]:
        same = [column for column in free if folded(column) == folded(name)]
        if len(same) > 1:
            raise DataError(
                f"A column's name must be unique, but {where} has {', '.join(map(repr, same))}. State under `columns` "
                f"which is the {role}, and the other as `unused`; or rename it."
            )
        if same:
            return same[0]
    return None


def _similar(role: str, free: list[str]) -> tuple[str, ...]:
    """Columns whose names are nearly a role's and not another's."""
    own = {folded(name) for name in NAMES[role]}
    others = {folded(name) for name in ALL_NAMES} - own
    return tuple(
        column for column in free
        if (name := folded(column)) not in others
        and (any(one_edit(name, other) for other in own) or (role == "options" and CHOICES.fullmatch(name)))
    )


def _refuse_series(free: Sequence[str], rows: Sequence[Mapping], answer: str, where: str) -> None:
    """Raise DataError for columns A, B, … or option_1, option_2, … that answers refer to: without them all are open."""
    series: dict[str, dict[str, str]] = {}  # stem: sign: column
    for column in free:
        if (match := SERIES.fullmatch(folded(column))) and (match[1] or match[2].isalpha()):
            series.setdefault(match[1], {})[match[2]] = column
    for signs in series.values():
        whole = signs.keys() >= {"a", "b"} or signs.keys() >= {"1", "2"}
        if whole and any(_names_one(row, signs, answer) for row in rows):
            listed = ", ".join(signs.values())
            raise DataError(
                f"Options must be in the column `options`, but {where} has {listed}, and answers name one of these. "
                f"State `columns: {{options: [{listed}]}}` if they are the options, else "
                f"`columns: {{unused: [{listed}]}}`."
            )


def _names_one(row: Mapping, signs: Mapping[str, str], answer: str) -> bool:
    """Whether a row's answer is the sign, or the content, of one of these columns that the row fills."""
    said, cells = value(row, answer), {sign: row[name] for sign, name in signs.items() if filled(row.get(name))}
    return filled(said) and (str(said).strip().lower() in cells or said in cells.values())


def _how(stated: Mapping, by_name: Mapping[str, str], free: list[str], unread: Collection[str]) -> Iterator[dict]:
    """{role, column, how} of every role that has a column, then of every column that is not read."""
    for role, names in stated.items():
        if names and role != "unused":
            yield {"role": role, "column": ", ".join(map(_quoted, _names(names))), "how": "stated"}
    for role, name in by_name.items():
        exact = name in NAMES[role]
        yield {"role": role, "column": _quoted(name), "how": "by its name" if exact else RESPELT}
    settled = {*by_name, *stated, *unread}
    for name in (*free, *stated.get("unused", ())):
        like = [role for role in OPTIONAL if role in folded(name) and role not in settled]
        how = f"not read; state it under `columns` if it is the {like[0]}" if like else "not read"
        yield {"role": "", "column": _quoted(name), "how": how}


def _quoted(name: str) -> str:
    """A name as it is; quoted if spaces or invisible characters would otherwise be hidden."""
    plain = name and name == name.strip() and all(map(_visible, name))
    return name if plain else repr(name)


def _names(names: str | Mapping[str, str] | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names.values()) if isinstance(names, Mapping) else tuple(names)
