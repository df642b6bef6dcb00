"""Yes and no in other languages, and Chinese by characters."""

import pytest

from medstudy.data import standard_scores as standard
from medstudy.data import yes_no
from medstudy.data.words import named
from medstudy.errors import DataError


@pytest.mark.parametrize("answer, right, wrong", [
    ("是", "是的，左肺有结节。", "不是"), ("有", "有", "没有"), ("否", "不是", "是"), ("没有", "图中没有结节", "有"),
    ("不存在", "没有。", "存在"), ("oui", "Oui, un nodule.", "Non"), ("nein", "Nein.", "Ja"), ("нет", "Нет", "Да"),
    ("لا", "لا", "نعم"), ("はい", "はい、あります", "いいえ"), ("yes", "Yes, non-contrast CT", "no"),
])
def test_the_language_of_the_reference_says_how_an_answer_is_read(answer, right, wrong):
    assert standard.strict_closed(right, answer) == 1 and standard.strict_closed(wrong, answer) == 0
    assert standard.strict_closed(answer, answer) == 1


def test_both_or_neither_is_wrong():
    assert standard.strict_closed("这张图是肺，但没有结节", "是") == 0 and standard.strict_closed("肺", "是") == 0
    with pytest.raises(DataError, match="yes or no"):
        yes_no.polarity("maybe")


def test_every_word_of_every_language_means_itself_in_it():
    for name, language in yes_no.LANGUAGES.items():
        for meaning in ("yes", "no"):
            for word in getattr(language, meaning):
                assert yes_no.given(word, name) == {meaning}, (name, word)


def test_a_chinese_name_is_found_inside_a_sentence():
    assert named("左肺有结节", ["左肺", "右肺", "结节"]) == {"左肺", "结节"}
    assert named("未见明显结节，左肺正常", ["结节", "左肺"]) == {"左肺"}
    assert standard.strict_class("病变位于左肺上叶。", "左肺上叶", ("左肺", "左肺上叶", "右肺")) == 1


def test_chinese_words_are_scored_by_their_characters():
    assert standard.multiset_words("左肺有结节", "左肺") == (0.4, 1.0, pytest.approx(4 / 7))
    assert standard.exact_match("左肺。", "左肺") == 1 and standard.multiset_words("右肾", "左肺") == (0, 0, 0)
