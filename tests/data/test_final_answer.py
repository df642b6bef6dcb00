"""The final answer in what models of all families write, and the reasoning that is left out."""

import pytest

from medstudy.data import choices, standard_scores
from medstudy.data.final_answer import final, opening

SHAPES = {  # (what a model wrote): its answer, the name of the shape that states it
    # Reasoning: DeepSeek-R1, Qwen3-VL-Thinking (the prompt opened the tag), Lingshu, GLM, Kimi, Magistral, MedGemma
    "<think>\nA cyst? No, solid.\n</think>\n\nB": ("B", ""),
    "A cyst? No, solid.</think>\n\nB": ("B", ""),
    "<think>first</think>B<think>really?</think> C": ("C", ""),
    "<think>It might be A, but": ("", ""),
    "<thinking>x</thinking>yes": ("yes", ""),
    "<reasoning>x</reasoning>\nno": ("no", ""),
    "◁think▷A or B…◁/think▷The answer is B.": ("The answer is B.", ""),
    "◁think▷A or B": ("", ""),
    "A or B…◁/think▷B": ("B", ""),
    "[THINK]hm[/THINK]4": ("4", ""),
    "<unused94>thought\nhm<unused95>4": ("4", ""),
    "<|channel|>analysis<|message|>Need count.<|end|><|start|>assistant<|channel|>final<|message|>7": ("7", ""),
    "<|begin_of_thought|>hm<|end_of_thought|><|begin_of_solution|>lung<|end_of_solution|>": ("lung", "solution"),
    "## Thinking\n\nA mass.\n\n## Final Response\n\nThe left lung.": ("The left lung.", ""),
    "## Thinking\n\nA mass": ("", ""),
    # Stated answers: Med-R1, MedVLM-R1, MedVLThinker, GLM-4.1V, LLaVA-CoT, Chiron-o1, general prompts
    "<think>hm</think>\n<answer>B</answer>": ("B", "answer tag"),
    "<think>hm</think><answer>B. left lung": ("B. left lung", "answer tag"),
    "<think>hm</think>So \\boxed{\\text{B}}.": ("B", "boxed"),
    "The count is $\\boxed{12}$.": ("12", "boxed"),
    "<think>hm</think><answer>The answer is <|begin_of_box|>C<|end_of_box|></answer>": (
        "The answer is <|begin_of_box|>C<|end_of_box|>", "answer tag"),
    "<think>hm</think>It is <|begin_of_box|>left lung<|end_of_box|>.": ("left lung", "GLM box"),
    "<SUMMARY>x</SUMMARY><CONCLUSION>D</CONCLUSION>": ("D", "solution tag"),
    "Step 1: no cyst.\n### The final answer is: B": ("B", "final answer"),
    "There is no cyst.\n\n**Final Answer:** **yes**": ("yes", "final answer"),
    "No cyst is seen. Final answer: no": ("no", "final answer"),
    "Therefore, the final answer is B.": ("B.", "final answer"),
    "Reasons\n### Answer\nliver\n\n### Confidence\nhigh": ("liver", "answer heading"),
    "Final answer: yes\n\nExplanation: no effusion.": ("yes", "final answer"),
    '{"reasoning": "no cyst", "answer": "B"}': ("B", "JSON"),
    '```json\n{"Answer": 7}\n```': ("7", "JSON"),
    # Chinese
    "<think>左肺？</think>最终答案：左肺。": ("左肺", "最终答案"),
    "分析如下。\n答案：B": ("B", "答案"),
    # Nothing is stated
    "The left lung.": ("The left lung.", ""), "": ("", ""),
    "I have no final answer yet": ("I have no final answer yet", ""),
    "<answer></answer>": ("", "answer tag"),
    '{"bbox_2d": [1, 2, 3, 4]}': ('{"bbox_2d": [1, 2, 3, 4]}', ""),
}


@pytest.mark.parametrize("text", SHAPES)
def test_the_answer_is_what_is_left(text):
    assert final(text)[:2] == SHAPES[text]


@pytest.mark.parametrize("text, thinking", [
    ("<think>A cyst?</think> B", "A cyst?"), ("A cyst?</think>B", "A cyst?"), ("<think>cut", "cut"), ("B", ""),
    ("◁think▷hm◁/think▷B", "hm"), ("<unused94>thought<unused95>B", "thought"),
    ("## Thinking\nhm\n## Final Response\nB", "hm"),
])
def test_reasoning_is_kept_apart_so_that_its_tokens_can_be_counted(text, thinking):
    assert final(text).thinking == thinking


@pytest.mark.parametrize("prompt, tag", [
    ("…<|im_start|>assistant\n<think>\n", "<think>"), ("…◁think▷", "◁think▷"), ("…<|im_start|>assistant\n", ""),
    ("<think>x</think> then", ""),
])
def test_a_prompt_that_opens_the_reasoning_is_known(prompt, tag):
    assert opening(prompt) == tag


def test_different_answers_in_one_shape_are_all_seen():
    assert final("\\boxed{A} or \\boxed{B}").text == "A\nB"
    assert choices.read("<answer>A</answer><answer>B</answer>", ("x", "y")).how == "several"
    assert choices.read("<answer>B</answer><answer>B</answer>", ("x", "y")).letter == "B"
    assert standard_scores.strict_closed("<answer>yes</answer><answer>no</answer>", "yes") == 0


@pytest.mark.parametrize("text", [
    "<think>no nodule? yes, one.</think><answer>yes</answer>", "No cyst. No mass. Final answer: yes",
    "<think>no</think>\\boxed{yes}", '{"reasoning": "no cyst", "answer": "Yes"}', "no, no…</think>**Yes**",
])
def test_every_score_reads_the_final_answer_alone(text):
    assert standard_scores.strict_closed(text, "yes") == 1
    assert standard_scores.strict_class(text, "yes", ("yes", "no")) == 1
    assert standard_scores.multiset_words(text, "yes") == (1, 1, 1)
    assert standard_scores.exact_match(text, "yes") == 1
