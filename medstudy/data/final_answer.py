"""What a model says in the end: its answer without the reasoning before it and without the dress around it.

    final("<think>A cyst?</think><answer>B</answer>")  # Final(text="B", shape="answer tag", thinking="A cyst?")

Every score reads answers through this module. Two tables list the shapes that models write: `THINKING`, what is not the
answer, and `STATED`, how an answer is marked as the final one. A shape counts only as it is written here; nothing is
guessed. Reasoning that never ends leaves no answer. Different answers that are stated in the same shape are all kept,
so that a score sees that there are several. Sources of the shapes:

    <think> …           DeepSeek-R1 (arXiv 2501.12948), Qwen3, Lingshu, MedVLThinker, Med-R1, MedVLM-R1, GLM-4.1V
    ◁think▷             Kimi-VL-Thinking (arXiv 2504.07491)
    [THINK]             Magistral (arXiv 2506.10910)
    <unused94>          MedGemma's thinking (its model card)
    ## Thinking         HuatuoGPT-o1 (arXiv 2412.18925), with "## Final Response"
    analysis, final     gpt-oss, the channels of its harmony format
    <|begin_of_box|>    GLM-4.1V-Thinking (arXiv 2507.01006)
    \\boxed{…}           mathematical prompts, as of MedVLThinker
    ### The final answer is     Chiron-o1 (arXiv 2506.16962)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

_FLAGS = re.DOTALL | re.IGNORECASE
_TAGS = "think|thinking|thought|reasoning"
# A pattern of reasoning; its end may be missing, as when the tokens did not suffice.
THINKING = tuple((name, re.compile(pattern, _FLAGS)) for name, pattern in (
    ("think tags", rf"\A.*</(?:{_TAGS})>"),  # the opening one may be in the prompt
    ("think tag that never closes", rf"<({_TAGS})>.*?(?:</\1>|\Z)"),
    ("Kimi", r"(?:◁think▷|\A(?=(?:(?!◁think▷).)*◁/think▷)).*?(?:◁/think▷|\Z)"),
    ("Magistral", r"\[THINK\].*?(?:\[/THINK\]|\Z)"),
    ("MedGemma", r"<unused94>.*?(?:<unused95>|\Z)"),
    ("begin of thought", r"<\|begin_of_thought\|>.*?(?:<\|end_of_thought\|>|\Z)"),
    ("harmony", r"<\|channel\|>analysis<\|message\|>.*?(?:<\|channel\|>final<\|message\|>|\Z)"),
    ("HuatuoGPT-o1", r"\A\s*#+\s*Thinking\b.*?(?:\n#+\s*Final Response\s*:?|\Z)"),
))
_HEADING = r"(?=\n\s*(?:#|\*\*|(?:explanation|reasoning|rationale|解释|理由)\b)|\Z)"
_BOXED = r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
# How an answer is marked; the first of these shapes that a text has.
STATED = tuple((name, re.compile(pattern, _FLAGS)) for name, pattern in (
    ("answer tag", r"<answer>(.*?)(?:</answer>|\Z)"),
    ("GLM box", r"<\|begin_of_box\|>(.*?)(?:<\|end_of_box\|>|\Z)"),
    ("solution", r"<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>|\Z)"),
    ("solution tag", r"<(?:solution|conclusion)>(.*?)(?:</(?:solution|conclusion)>|\Z)"),
    ("boxed", _BOXED),
    ("final answer", r"(?:^|\n|(?<=[.!?]))[\s#*]*(?:(?:therefore|thus|so|hence),?\s+)?(?:the\s+)?final\s+answer\s*"
                     r"(?:is\b|[:：]|\**\s*\n)[\s*:：]*(.+?)" + _HEADING),
    ("answer heading", r"(?:^|\n)\s*#+\s*(?:answer|conclusion|final response)\s*:?\**\s*\n?(.+?)" + _HEADING),
    ("最终答案", r"(?:最终答案|最后答案|正确答案)\s*(?:是|为)?\s*[:：]?\s*(.+?)(?=[。\n]|\Z)"),
    ("答案", r"(?:^|\n|[。,，])\s*答案\s*(?:是|为)?\s*[:：]\s*(.+?)(?=[。\n]|\Z)"),
))
_JSON = re.compile(r"\A\s*(?:```(?:json)?\s*)?(\{.*\})\s*(?:```)?\s*\Z", _FLAGS)
KEYS = ("final_answer", "final answer", "answer", "prediction", "答案")  # of an answer in JSON
MARKS = frozenset((  # special tokens of tokenizers that these shapes and those of places are written with
    "<think>", "</think>", "◁think▷", "◁/think▷", "[THINK]", "[/THINK]", "<unused94>", "<unused95>", "<|channel|>",
    "<|message|>", "<|begin_of_box|>", "<|end_of_box|>", "<|box_start|>", "<|box_end|>", "<box>", "</box>",
))


class Final(NamedTuple):
    """An answer, the shape that states it ("" if none does), and the reasoning that was left out.

    parts: the different answers that the shape states, which `text` has in a line each.
    """

    text: str
    shape: str = ""
    thinking: str = ""
    parts: tuple[str, ...] = ()


@lru_cache(maxsize=4096)
def final(text: str) -> Final:
    """The final answer in a model's text; its text is "" if the reasoning never ends."""
    rest, thinking = _thought(text)
    for name, read in _SHAPES:
        if parts := tuple(dict.fromkeys(map(_plain, read(rest)))):
            return Final("\n".join(parts), name, thinking, parts)
    return Final(rest, "", thinking, (rest,))


def without_reasoning(text: str) -> str:
    """The text after the reasoning, as in "<think>…</think> B"; "" if the reasoning never ends."""
    return _thought(text)[0]


def opening(prompt: str) -> str:
    """The tag with which a prompt itself opens the reasoning, as chat templates of thinking models do; else ""."""
    ended = re.search(rf"(<(?:{_TAGS})>|◁think▷|\[THINK\])\s*\Z", prompt, _FLAGS)
    return ended[1] if ended else ""


@lru_cache(maxsize=4096)
def _thought(text: str) -> tuple[str, str]:
    """(the text without its reasoning, the reasoning without its tags)."""
    found: list[str] = []

    def out(match: re.Match) -> str:
        found.append(_TAG.sub(" ", match[0]).strip())
        return " "

    if any(sign in text for sign in "<◁[#"):
        for _, pattern in THINKING:
            text = pattern.sub(out, text)
    return text.strip(), "\n".join(filter(None, found))


_TAG = re.compile(
    rf"</?(?:{_TAGS})>|◁/?think▷|\[/?THINK\]|<unused9[45]>|<\|(?:begin|end)_of_thought\|>|<\|\w+\|>(?:analysis|final)?|"
    r"\A\s*#+\s*Thinking\b|#+\s*Final Response\s*:?\s*\Z", re.IGNORECASE,
)


def _plain(answer: str) -> str:
    """An answer without LaTeX around its words, and without emphasis that began before it."""
    return _LATEX.sub(r"\1", answer).strip().removesuffix("**").strip()


_LATEX = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")


def _json(text: str) -> list[str]:
    """The answer of a JSON object with one of `KEYS`, as text."""
    if not (match := _JSON.match(text)):
        return []
    try:
        content = json.loads(match[1])
    except ValueError:
        return []
    named = {str(key).lower(): value for key, value in content.items()}
    values = [named[key] for key in KEYS if named.get(key) is not None][:1]
    return [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]


_SHAPES: tuple[tuple[str, Callable[[str], list[str]]], ...] = (
    *((name, pattern.findall) for name, pattern in STATED), ("JSON", _json),
)
