"""One image, many questions, one row: a shared prefix, and one branch per question.

An image's tokens are [system, image | question 1, answer 1 | question 2, answer 2 | …]. Every branch attends to the
prefix and to itself, never to another branch, and continues the prefix's positions: the losses are those of separate
sequences, and the image is encoded once. Several images are packed into one row without padding: first all their
prefixes, then all their branches (`medstudy.engine.row_layout` has the layout, `medstudy.engine.attention` the
kernels).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from medstudy.data.example import Question, Shot
from medstudy.engine import compression
from medstudy.engine.family_protocol import Family
from medstudy.engine.row_layout import PackedRow, Row, RowLayout
from medstudy.errors import DataError
from medstudy.resolution.sizes import Reduction, View


def row(
    family: Family, questions: tuple[Question, ...], shown: View, answered: bool, context: tuple[Shot, ...] = ()
) -> Row:
    """Tokenise the questions of one image, with their answers (training) or up to the start of the answer.

    context: the shots that precede the image in the prompt; `shown.context` holds their views. Raises DataError if a
    text contains the image token.
    """
    if not family.shares_prefix:
        return family.row(questions, shown, answered, context)
    image = shown.visual_tokens > 0
    several = {"crops": shown.crop_counts} if shown.crop_counts else {}
    prompts = [family.ids(family.prompt(question, image, context, **several)) for question in questions]
    # The prefix is what all prompts have in common, also with a prompt without any text.
    shared = _shared([*prompts, family.ids(family.prompt(_NOTHING, image, context, **several))])
    answers = [family.answer_ids(question.answer) if answered else [] for question in questions]
    for question, prompt in zip(questions, prompts, strict=True):
        if family.image_token in prompt[shared:]:
            raise DataError(
                f"A question must be plain text, but {question.id!r} contains the image token: {question.text!r}. "
                "Remove it."
            )
    if (places := prompts[0][:shared].count(family.image_token)) != len(shown.views):
        raise DataError(
            f"The prompt of {questions[0].id!r} must hold {len(shown.views)} image tokens, got {places}. Remove "
            "the image token from the texts before the question."
        )
    grids = torch.cat([torch.zeros((0, 3), dtype=torch.long), *(family.grid(view.size) for view in shown.views)])
    return Row(
        prefix=_expanded(prompts[0][:shared], family.image_token, image_tokens(family, shown)),
        branches=[prompt[shared:] + answer for prompt, answer in zip(prompts, answers, strict=True)],
        answers=[len(prompt) - shared for prompt in prompts],
        grids=grids,
        patches=family.patch_counts(grids),
        reductions=_reductions(shown),
    )


def image_tokens(family: Family, shown: View) -> list[list[int]]:
    """The tokens of each image of a prompt."""
    return [family.image_ids(view.visual_tokens, family.grid(view.size)[0]) for view in shown.views]


def layout_of(family: Family, rows: Sequence[Row]) -> RowLayout:
    """The layout of several images' rows as one row."""
    return RowLayout(
        tuple(len(row.prefix) for row in rows),
        tuple(tuple(map(len, row.branches)) for row in rows),
        tuple(runs(row.prefix, family.image_token) for row in rows) if family.both_ways else (),
    )


def pack(family: Family, rows: list[Row]) -> PackedRow:
    """Several images' rows as one row: no padding, no token of one image visible to another."""
    layout = layout_of(family, rows)
    branches = [branch for row in rows for branch in row.branches]
    ids = torch.tensor([token for part in [*(row.prefix for row in rows), *branches] for token in part])
    # Positions: every branch continues its own prefix.
    prefixes, sources = zip(*(_positions(family, row) for row in rows), strict=True)
    reduces = any(row.reductions for row in rows)
    axes = prefixes[0].shape[0]
    following = [int(part.max()) + 1 if part.numel() else 0 for part in prefixes]
    starts = [start for start, row in zip(following, rows, strict=True) for _ in row.branches]
    places = [torch.arange(s, s + len(b)).expand(axes, -1) for s, b in zip(starts, branches, strict=True)]
    # Answers: the last tokens of each branch, as indices in the row.
    ends = layout.shared + torch.tensor([len(branch) for branch in branches], dtype=torch.long).cumsum(0)
    answers = [answer for row in rows for answer in row.answers]
    spans = [range(int(end) - len(b) + a, int(end)) for end, b, a in zip(ends, branches, answers, strict=True)]
    answer_tokens = torch.tensor([place for span in spans for place in span], dtype=torch.long)
    counts = torch.tensor([len(span) for span in spans], dtype=torch.long)
    return PackedRow(
        ids=ids[None],
        positions=torch.cat([*prefixes, *places], 1)[:, None],
        layout=layout,
        at=answer_tokens - 1,
        targets=ids[answer_tokens],
        question=torch.repeat_interleave(torch.arange(len(branches)), counts),
        last=ends - 1,
        grids=torch.cat([row.grids for row in rows]),
        visual=int((ids == family.image_token).sum()),
        reductions=tuple(part for row in rows for part in row.reductions or _kept(family, row)) if reduces else (),
        places=torch.cat(sources, 1) if reduces else None,
    )


def runs(tokens: list[int], wanted: int) -> tuple[tuple[int, int], ...]:
    """Start and end of each unbroken run of a token."""
    edges = torch.tensor([0, *(token == wanted for token in tokens), 0]).diff().nonzero().flatten()
    return tuple(map(tuple, edges.view(-1, 2).tolist()))


def _positions(family: Family, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of a row's prefix, and of the places from which its visual tokens are taken."""
    if row.reductions:
        return compression.positions(row, family.positions, family.image_token, family.merge_side)
    whole = family.positions(row.prefix, row.grids)
    return whole, whole[:, torch.tensor(row.prefix, dtype=torch.long) == family.image_token]


def _reductions(shown: View) -> tuple[Reduction, ...]:
    """The reduction of each image of a prompt; none if all keep all tokens."""
    if not any(view.reduction for view in shown.views):
        return ()
    return tuple(view.reduction or compression.plain(view.visual_tokens) for view in shown.views)


def _kept(family: Family, row: Row) -> tuple[Reduction, ...]:
    """For a row that keeps all visual tokens, packed with others: one for all its images."""
    count = row.prefix.count(family.image_token)
    return (compression.plain(count),) if count else ()


_NOTHING = Question(id="", text="", answer="", kind="open", task="")


def _shared(sequences: list[list[int]]) -> int:
    """Length of the longest common prefix."""
    for index, tokens in enumerate(zip(*sequences, strict=False)):
        if len(set(tokens)) > 1:
            return index
    return min(map(len, sequences))


def _expanded(prefix: list[int], image_token: int, images: list[list[int]]) -> list[int]:
    """The prefix with each image token replaced by all the tokens of its image."""
    remaining = iter(images)
    return [token for item in prefix for token in (next(remaining) if item == image_token else [item])]
