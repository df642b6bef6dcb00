"""Answers to a choice as models write them, and the option that each names; nothing is guessed."""

import pytest

from medstudy.data import choices

OPTIONS = ("right lung", "left lung", "liver", "spleen")
LETTERED = """
B.left lung | B)left lung | The answer is B (not A or C). | A and C are wrong, so B | I can rule out A and C. B
B<|im_end|> | B</s> | Between A and B, B is more likely. | 选B | The letter is B | (B).
B | b | (B) | B. | B) | b) | (b) | **B** | *B* | __B__ | [B] | "B" | 'B' | ` B` | >B | # B | - B | B; | B! | $B$ | Ｂ
（B）
B\\nThe left lung. | B\\nThe left lung is larger than the right lung. | B - left | B – left lung | B, left lung
B: left lung | B. left lung | B) left lung | (B) left lung | (b) left lung | B (left lung) | left lung (B)
The answer is B | The answer is B. | the answer is b | The correct answer is (B). | The correct answer is B: left lung
The answer to the question is B. | Based on the image, the answer would be B. | Answer: B | Answer: **B**
**Answer:** B
Final answer: B | Answer B | My answer: B | Option B | option b | Option B is correct. | The correct option is B
The correct answer is option B. | The most likely organ is B. | I think it is B. | I choose B | B is correct
I would go with B because the left lung is shown. | B is the answer. | So the best choice is B. | B because A is wrong
\\boxed{B} | \\boxed{\\text{B}} | The final answer is $\\boxed{B}$. | <answer>B</answer> | {"answer": "B"} | 答案：B
答案是B。
<think>A or C? A looks right.</think> B | A or C?</think>\\nB | <think>A</think>\\n\\n**B. left lung**
It's not A but B. | The answer is B, not A. | The answer is not A but B | A is incorrect. B is right.
B. Unlike A, it is left. | A. no. C. no. The answer is B.
Let's see. A: right lung. B: left lung. Therefore, the answer is B.
A. right lung\\nB. left lung\\nThe answer is B. | B\\n\\nExplanation: A is the right lung, C is the liver.
A is the right lung.\\nC is the liver.\\n\\nB | B. A nodule is seen in it.
"""
WORDED = """
left lung | Left lung. | **left lung** | the left lung | It is the left lung. | Answer: left lung | B left lung
The image shows the left lung, not the liver. | It is not the right lung; it is the left lung.
B. left lung\\nExplanation: A is the right lung, so no. | <think>The liver?</think> The left lung
"""
NONE = """
Not A or B | It is not A, B or C. | A and B are both wrong
A nodule is seen | A nodule in the lung. | A lung | The answer is a nodule | The answer is A nodule | Benign | AB | T2
Not B | Not B. | It is not B | Isn't B. | The answer is not B | Neither A nor B | not the left lung | none of them | ?
B cells are seen | B-cell lymphoma | hepatitis B | Type B | vitamin A deficiency | E. coli | e.g. a cyst | kidney
I do not know | I cannot see anything | <think>B is it
"""
SEVERAL = """
A or B | a or b | A and B | A & B | A/B | A, B | a, b | A; B | A + B | A B | A) or B) | (A) and (B) | a) and b)
A.B.C.D | A: no; B: yes | A: B | Both A and B | either A or B | options A and B | The answer is A or B.
The answer is (A) or (B) | The answer is A and B | Answer: A, B | The answer is A. No, the answer is B.
A\\nThe answer is B. | A\\nB
A. left lung | Answer: A. left lung | right lung and left lung | The right lung or the left lung
A. right lung B. left lung C. liver D. spleen | A. right lung\\nB. left lung\\nC. liver | \\boxed{A} \\boxed{B}
"""


def shapes(table: str) -> list[str]:
    return [one.strip(" ").replace("\\n", "\n") for line in table.strip().split("\n") for one in line.split(" | ")]


@pytest.mark.parametrize("text", shapes(LETTERED) + shapes(WORDED))
def test_one_option_is_read_however_it_is_written(text):
    assert choices.read(text, OPTIONS) == choices.Read("B", "one")


@pytest.mark.parametrize("text", shapes(NONE) + ["", "  "])
def test_what_names_no_option_is_not_read(text):
    assert choices.read(text, OPTIONS) == choices.Read(None, "none")


@pytest.mark.parametrize("text", shapes(SEVERAL))
def test_several_options_are_none(text):
    assert choices.read(text, OPTIONS) == choices.Read(None, "several")


@pytest.mark.parametrize("text", [one for one in shapes(LETTERED) if "Explanation" not in one])
def test_letters_are_read_without_the_options_too(text):
    assert choices.read(text).letter == "B"


@pytest.mark.parametrize("text", shapes(WORDED)[:6])
def test_texts_are_read_with_the_options_alone(text):
    assert choices.read(text).how == "none"


@pytest.mark.parametrize("text, options, letter", [
    ("E. coli", ("E. coli", "S. aureus", "C. difficile", "B. pertussis", "Candida"), "A"),  # no letter E
    ("C. difficile", ("E. coli", "S. aureus", "C. difficile"), "C"),
    ("hepatitis B", ("hepatitis A", "hepatitis B"), "B"),
    ("It is hepatitis A.", ("hepatitis B", "hepatitis A"), "B"),
    ("B. hepatitis A", ("hepatitis B", "hepatitis A"), "B"),
    ("A right lung", ("right lung", "left lung"), "A"),  # the letter, or the article: the same
    ("ER-", ("ER+", "ER-"), "B"),
    (">5 mm", ("<5 mm", ">5 mm"), "B"),
    ("2", ("1", "2"), "B"), ("There are two lesions.", ("1", "2"), "B"),
    ("benign", ("Benign", "benign"), "B"),  # character by character
    ("B", ("B", "A"), "B"), ("A", ("B", "A"), "A"),  # the letter, not the text
    ("B", ("A", "C"), "B"),
    ("ab", ("cd", "AB"), "B"),
    ("J", tuple("0123456789"), "J"),
    ("I think it is C", tuple("0123456789"), "C"),
    ("No lesion", ("lesion", "no lesion"), "B"),
])
def test_texts_that_look_like_letters_and_letters_that_look_like_texts(text, options, letter):
    assert choices.read(text, options).letter == letter


@pytest.mark.parametrize("text, options", [
    ("C", ("left", "right")), ("E", OPTIONS), ("BENIGN", ("Benign", "benign")), ("no lung", ("lung", "liver")),
    ("same", ("same", "same")),
])
def test_what_no_single_option_fits_is_not_read(text, options):
    assert choices.read(text, options).letter is None


def test_options_that_texts_cannot_tell_apart_are_listed():
    assert choices.same_text(("Benign", "benign.", "ER+", "ER-", "the liver", "liver")) == [
        ("Benign", "benign."), ("the liver", "liver")]
