"""One image, many questions, one row: a shared prefix and a branch a question.

A row is [system, image | question 1, answer 1 | question 2, answer 2 | …]. Every branch attends to the prefix and to
itself, never to another branch, and continues the prefix's positions: the losses are those of separate sequences,
and the image is encoded once. This is the reference form: boolean mask, scaled-dot-product attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medstudy.records import Question
from medstudy.resolution import Shown


@dataclass(frozen=True)
class Row:
    """Token ids of one image's prefix and of its branches; `answers[k]` is where branch k's answer starts in it."""

    prefix: list[int]
    branches: list[list[int]]
    answers: list[int]
    grid: torch.Tensor | None  # [3] patches: time, height, width; None without an image

    def __len__(self) -> int:
        return len(self.prefix) + sum(map(len, self.branches))


def row(family, questions: tuple[Question, ...], shown: Shown, answered: bool) -> Row:
    """Tokenise the questions of one image; with their answers (training) or up to where an answer starts."""
    image = shown.visual_tokens > 0
    prompts = [family.ids(family.prompt(question, image)) for question in questions]
    shared = _shared([*prompts, family.ids(family.prompt(_NOTHING, image))])
    answers = [family.ids(question.answer) + [family.end] if answered else [] for question in questions]
    return Row(
        prefix=_expanded(prompts[0][:shared], family.image_token, shown.visual_tokens),
        branches=[prompt[shared:] + answer for prompt, answer in zip(prompts, answers, strict=True)],
        answers=[len(prompt) - shared for prompt in prompts],
        grid=_grid(family, shown) if image else None,
    )


def collate(family, rows: list[Row]) -> dict[str, torch.Tensor]:
    """Pad rows to one batch.

    input_ids [B, S]; position_ids [3, B, S]; attention_mask [B, 1, S, S] bool, True where a query may look;
    targets [B, S]: the token that each position should predict, -100 elsewhere; question [B, S]: its branch, else -1.
    """
    size, length = len(rows), max(map(len, rows))
    ids = torch.full((size, length), family.processor.tokenizer.pad_token_id)
    positions = torch.zeros((3, size, length), dtype=torch.long)
    mask = torch.zeros((size, 1, length, length), dtype=torch.bool)
    targets = torch.full((size, length), -100)
    question = torch.full((size, length), -1)
    for index, item in enumerate(rows):
        tokens = torch.tensor(item.prefix + [token for branch in item.branches for token in branch])
        branch = _branch_of(item)
        ids[index, : len(item)] = tokens
        positions[:, index, : len(item)] = _positions(family, item)
        mask[index, 0, : len(item), : len(item)] = allowed(branch)
        for number, (start, end) in enumerate(_answer_spans(item)):
            targets[index, start - 1 : end - 1] = tokens[start:end]
            question[index, start - 1 : end - 1] = number
    mask |= torch.eye(length, dtype=torch.bool)  # padding looks at itself: no empty softmax
    inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask}
    return inputs | {"targets": targets, "question": question}


def allowed(branch: torch.Tensor) -> torch.Tensor:
    """[S] branch of each token (-1: prefix) -> [S, S] bool: causal, and the key in the prefix or in the same branch."""
    order = torch.arange(len(branch))
    return (order[:, None] >= order) & ((branch[None] == -1) | (branch[:, None] == branch[None]))


_NOTHING = Question(id="", text="", answer="", kind="open", task="")


def _shared(sequences: list[list[int]]) -> int:
    """Length of the longest common beginning."""
    for index, tokens in enumerate(zip(*sequences, strict=False)):
        if len(set(tokens)) > 1:
            return index
    return min(map(len, sequences))


def _expanded(prefix: list[int], image_token: int, count: int) -> list[int]:
    return [token for item in prefix for token in ([item] * count if item == image_token else [item])]


def _grid(family, shown: Shown) -> torch.Tensor:
    patch = family.model.config.vision_config.patch_size
    return torch.tensor([1, shown.size.height // patch, shown.size.width // patch])


def _branch_of(item: Row) -> torch.Tensor:
    lengths = [len(item.prefix), *map(len, item.branches)]
    return torch.repeat_interleave(torch.arange(-1, len(item.branches)), torch.tensor(lengths))


def _positions(family, item: Row) -> torch.Tensor:
    prefix = family.positions(item.prefix, item.grid)
    start = int(prefix.max()) + 1
    branches = [torch.arange(start, start + len(branch)).expand(3, -1) for branch in item.branches]
    return torch.cat([prefix, *branches], dim=1)


def _answer_spans(item: Row) -> list[tuple[int, int]]:
    start, spans = len(item.prefix), []
    for branch, answer in zip(item.branches, item.answers, strict=True):
        spans.append((start + answer, start + len(branch)))
        start += len(branch)
    return spans
