"""Golden cases of every metric, including oddities."""

import time

import numpy as np
import pandas as pd
import pytest

from medstudy.data import standard_scores
from medstudy.errors import DataError
from medstudy.scoring import metrics, score
from tests.support.synthetic import predictions

KNOWN_LINES = ("A-431", "HEK293", "HEK293T", "HeLa")
KNOWN_PLACES = ("Nucleoli", "Nucleoli fibrillar center", "Nucleoplasm", "Cytosol")


@pytest.mark.parametrize("text, answer, author, strict, llava_med", [
    ("Yes", "yes", 1, 1, 1),
    ("No.", "no", 1, 1, 1),
    ("The chest is normal", "no", 1, 0, 1),  # the oddity: "no" inside "normal"
    ("I do not know", "no", 1, 0, 1),
    ("yes and no", "yes", 1, 0, 1),
    ("yes and no", "no", 1, 0, 1),
    ("none", "no", 1, 0, 0),  # LLaVA-Med normalises "none" to "0"
    ("No, there is a mass", "yes", 0, 0, 0),
    ("The eyes", "yes", 1, 0, 1),
    ("", "no", 0, 0, 0),
    ("left lung", "left", 1, 0, 0),  # a closed answer that is neither: LLaVA-Med wants yes or no in the text first
    ("no, the left", "left", 1, 0, 1),
])
def test_closed(text, answer, author, strict, llava_med):
    assert metrics.author_closed(text, answer) == author
    assert standard_scores.strict_closed(text, answer) == strict
    assert metrics.llava_med_closed(text, answer) == llava_med


@pytest.mark.parametrize("text, words", [
    ("The left lung.", ["left", "lung"]),
    ("Two nodules, one large", ["2", "nodules", "1", "large"]),
    ("T2-weighted", ["t2", "weighted"]),
    ("left- and right-sided", ["left", "and", "rightsided"]),  # a mark that touches a space is deleted everywhere
    ("3.5 cm", ["3.5", "cm"]),
    ("1,000 cells/field", ["1000", "cellsfield"]),  # so does every mark in a text with a comma inside a number
    ("", []),
])
def test_normalise(text, words):
    assert metrics.normalise(text) == words


@pytest.mark.parametrize("text, answer, author, multiset", [
    ("left lung", "the left lung", (1, 1, 1), (1, 1, 1)),
    ("liver", "liver spleen", (1, 1 / 2, 2 / 3), (1, 1 / 2, 2 / 3)),
    ("liver liver", "liver spleen", (1, 2 / 3, 4 / 5), (1 / 2, 1 / 2, 1 / 2)),  # repetition raises recall
    ("liver liver heart", "liver spleen", (2 / 3, 2 / 3, 2 / 3), (1 / 3, 1 / 2, 2 / 5)),
    ("liver", "liver liver spleen", (1, 1 / 2, 2 / 3), (1, 1 / 3, 1 / 2)),
    ("heart", "liver", (0, 0, 0), (0, 0, 0)),
    ("", "liver", (0, 0, 0), (0, 0, 0)),
    ("the", "liver", (0, 0, 0), (0, 0, 0)),  # nothing is left of an article
])
def test_words(text, answer, author, multiset):
    assert metrics.author_words(text, answer) == pytest.approx(author)
    assert standard_scores.multiset_words(text, answer) == pytest.approx(multiset)


@pytest.mark.parametrize("text, answer, exact, llava_med", [
    ("The liver", "liver", 1, 1),
    ("liver on the left", "left liver", 0, 2 / 3),
    ("liver liver", "liver", 0, 1 / 2),
    ("", "liver", 0, 0),
])
def test_exact_match(text, answer, exact, llava_med):
    assert standard_scores.exact_match(text, answer) == exact
    assert metrics.llava_med_exact_match(text, answer) == pytest.approx(llava_med)


@pytest.mark.parametrize("text, author, strict", [
    ("B", 1, 1), ("b", 1, 1), ("B. left", 1, 1), ("b) left", 1, 1), (" B", 1, 1), ("\nb", 1, 1), ("(B)", 0, 1),
    ("Benign", 1, 0), ("B left", 1, 0), ("The answer is B", 0, 1), ("C", 0, 0), ("", 0, 0),
])
def test_choice(text, author, strict):
    assert metrics.author_choice(text, "B") == author
    assert standard_scores.strict_choice(text, "B") == strict


@pytest.mark.parametrize("text, answer, author, strict", [
    ("Normal.", "normal", 1, 1),
    ("abnormal", "normal", 1, 0),  # contained, but not as a word
    ("normal or cancer", "normal", 1, 0),  # naming every class is wrong
    ("high grade cancer", "cancer", 1, 0),  # a name inside a longer class name is that class
    ("high grade cancer", "high grade cancer", 1, 1),
    ("It is MEDULLARY carcinoma.", "Medullary Carcinoma", 1, 1),  # case is ignored
    ("no evidence of cancer", "cancer", 1, 0),  # denied, but not by the word before it
    ("Absence of cancer: normal.", "normal", 1, 1),
    ("negative for any sign of cancer", "cancer", 1, 0),
    ("free air, cancer", "cancer", 1, 1),
    ("", "normal", 0, 0),
])
def test_class(text, answer, author, strict):
    classes = ("normal", "abnormal", "cancer", "high grade cancer", "Medullary Carcinoma")
    assert metrics.author_class(text, answer) == author
    assert standard_scores.strict_class(text, answer, classes) == strict


@pytest.mark.parametrize("text, line, places, expected", [
    ("HeLa cells, nucleoplasm", "HeLa", ("Nucleoplasm",), (1, 1, 1, 1)),
    ("hek293t cells", "HEK293T", (), (0, np.nan, 1, np.nan)),  # "HEK293" is found first, inside
    ("HeLa and A-431", "HeLa", (), (1, np.nan, 0, np.nan)),  # the first in the text, not in the list
    ("not A-431 but HeLa", "HeLa", (), (0, np.nan, 0, np.nan)),
    ("HELA cells", "HeLa", (), (1, np.nan, 1, np.nan)),
    ("nucleoli, nucleoplasm, cytosol", None, ("Cytosol",), (np.nan, 1, np.nan, 1 / 2)),  # rewards naming all
    ("nucleoli fibrillar center", None, ("Nucleoli",), (np.nan, 1, np.nan, 0)),
    ("cytosol", None, ("Cytosol", "Nucleoplasm"), (np.nan, 1 / 2, np.nan, 2 / 3)),
    ("", "HeLa", ("Cytosol",), (0, 0, 0, 0)),
])
def test_description(text, line, places, expected):
    scores = metrics.description(text, line, places, KNOWN_LINES, KNOWN_PLACES)
    assert scores == pytest.approx(expected, nan_ok=True)


def test_macro_recall_gives_localizations_equal_weight():
    rows = pd.DataFrame({
        "raw_text": ["cytosol", "cytosol", "", "cytosol and nucleoplasm"],
        "localizations": [["Cytosol"], ["Cytosol"], ["Cytosol"], ["Nucleoplasm", "Cytosol"]]})
    assert score.macro_localization_recall(rows) == pytest.approx((3 / 4 + 1) / 2)
    assert np.isnan(score.macro_localization_recall(rows.iloc[:0]))


def row(**changes):
    base = dict(dataset="d", image_id="i", question_id="q", kind="closed", answer="yes", raw_text="yes",
                detail_px=np.nan, options=[], cell_line=None, localizations=[], prompt="p")
    return base | changes


def test_score_uses_the_rule_of_each_kind_and_keeps_rows():
    rows = [row(answer="no", raw_text="normal", detail_px=3.0),
            row(kind="choice", answer="B", raw_text="Benign", options=["x", "y", "z", "w"]),
            row(kind="open", answer="liver spleen", raw_text="liver liver"),
            row(kind="class", answer="low", raw_text="slow"),
            row(kind="class", answer="high", raw_text="high"),
            row(kind="description", cell_line="HeLa", localizations=["Cytosol"], raw_text="HeLa")]
    scores = score.score(pd.DataFrame(rows, index=[5, 5, 7, 8, 9, 1]))
    assert scores["score"].tolist() == scores["strict"].tolist()
    assert scores["author"].tolist() == pytest.approx([1, 1, 2 / 3, 1, 1, 1 / 2])
    assert scores["strict"].tolist() == pytest.approx([0, 0, 1 / 2, 0, 1, 1 / 2])
    assert scores["chance"].tolist() == pytest.approx([0.5, 0.25, 0, 0.5, 0.5, 0])
    assert scores["level"].tolist() == ["fine"] + ["coarse"] * 5
    assert scores["raw_text"].tolist() == [r["raw_text"] for r in rows]
    assert not {"prompt", "options"} & set(scores)


def test_blank_predictions_score_zero_not_nan():
    frame = predictions(n_images=8, seeds=1, rungs=("native",), controls=())
    for blank in ("", None, np.nan):
        scores = score.score(frame.assign(raw_text=blank))
        assert (scores[["score", "author", "strict"]] == 0).all(axis=None)


def test_scores_survive_parquet_and_stay_in_range(tmp_path):
    frame = predictions(n_images=8, seeds=1)
    frame.to_parquet(tmp_path / "p.parquet")
    here, back = score.score(frame), score.score(pd.read_parquet(tmp_path / "p.parquet"))
    pd.testing.assert_frame_equal(here[[*score.METRICS, "chance"]], back[[*score.METRICS, "chance"]])
    values = here[list(score.METRICS)].stack().dropna()
    assert values.between(0, 1).all() and here[["score", "author", "strict"]].notna().all(axis=None)


@pytest.mark.parametrize("changes, message", [
    (dict(kind="essay"), "kind"),
    (dict(answer=" "), "reference answer"),
    (dict(answer="left"), "yes or no"),
    (dict(kind="description", answer="-"), "neither"),
])
def test_malformed_references_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        score.score(pd.DataFrame([row(), row(**changes)]))


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="raw_text"):
        score.score(pd.DataFrame([row()]).drop(columns="raw_text"))


PAIRS = [
    # set, reference, answer: different letters; the same letter for both; each the other's; one that is no letter
    ("apart", "A", "A"), ("apart", "B", "b) right"), ("same", "A", "A"), ("same", "B", "A."),
    ("swapped", "A", "B"), ("swapped", "B", "A"), ("mute", "A", "A"), ("mute", "B", "Benign or not"),
]


def pairs(**changes):
    return [
        row(kind="choice", image_id=f"{name}{answer}", answer=answer, raw_text=text, options=["x", "y"], set_id=name,
            group=name, regime="native", seed=0, inference="native", control="none", split="test") | changes
        for name, answer, text in PAIRS
    ]


def test_a_set_is_right_if_all_answers_are_and_confused_if_they_are_equal():
    alone = row(image_id="z", question_id="z", set_id=None, group="z", regime="native", seed=0)
    sets = score.set_scores(score.score(pd.DataFrame([*pairs(), alone]))).set_index("set_id")
    assert sets["score"].to_dict() == {"apart": 1, "same": 0, "swapped": 0, "mute": 0}
    assert sets["confused"].dropna().to_dict() == {"apart": 0, "same": 1, "swapped": 0}
    assert sets["chance"].tolist() == [0.25] * 4 and sets["questions"].tolist() == [2] * 4
    assert sets["accuracy"].to_dict() == {"apart": 1, "same": 0.5, "swapped": 0, "mute": 0.5}


def test_sets_of_different_runs_are_never_mixed():
    half = score.score(pd.DataFrame([*pairs()[:1], *pairs(seed=1)[1:2], *pairs(inference="fixed-84")[:2]]))
    sets = score.set_scores(half)
    assert sets.set_index(["seed", "inference"])["questions"].to_dict() == {
        (0, "native"): 1, (1, "native"): 1, (0, "fixed-84"): 2
    }
    assert sets["confused"].notna().tolist() == [False, False, True]


def test_sets_of_yes_and_no_have_no_confusion():
    rows = [row(question_id=n, set_id="s", group="g", answer=n, raw_text="yes") for n in ("yes", "no")]
    sets = score.set_scores(score.score(pd.DataFrame(rows)))
    assert sets["score"].tolist() == [0] and sets["confused"].isna().all() and sets["chance"].tolist() == [0.25]


@pytest.mark.parametrize("columns", [{}, {"set_id": None}])
def test_without_sets_there_are_no_rows(columns):
    assert score.set_scores(score.score(pd.DataFrame([row(**columns)]))).empty


def test_a_million_rows_are_scored_in_seconds():
    frame = predictions(n_images=80)
    frame = pd.concat([frame] * 7, ignore_index=True)
    frame["raw_text"] += pd.Series(np.arange(len(frame))).astype(str).radd(" ")  # no text repeats
    start = time.process_time()
    score.score(frame)
    assert (time.process_time() - start) / len(frame) * 1e6 < 60


def test_levels_are_known_only_for_data_sets_with_sizes():
    rows = pd.DataFrame({"dataset": ["made", "made", "public"], "detail_px": [3.0, np.nan, np.nan]})
    assert score.levels(rows).tolist() == ["fine", "coarse", "unknown"]


def test_standard_scores_skip_reasoning_before_an_answer():
    text = "<think>Benign? No, yes, B or malignant.</think>\n\n{}"
    rows = [row(answer="yes", raw_text=text.format("Yes.")),
            row(kind="open", answer="liver", raw_text=text.format("liver")),
            row(kind="choice", answer="A", raw_text=text.format("A"), options=["x", "y"]),
            *(row(kind="class", answer=name, raw_text=text.format(name)) for name in ("benign", "malignant"))]
    scores = score.score(pd.DataFrame(rows))
    assert (scores["strict"] == 1).all() and (scores["exact"].dropna() == 1).all()
    assert score.score(pd.DataFrame([row(raw_text="<think>yes")]))["strict"].tolist() == [0]


def test_scores_of_choices_include_how_they_were_answered():
    texts = ["B", "A or B", "no idea", "left"]
    rows = [row(kind="choice", answer="B", raw_text=text, options=["right", "left"]) for text in texts]
    scores = score.score(pd.DataFrame([*rows, row()]))
    assert scores["answer_read"].tolist() == ["one", "several", "none", "one", None]
    assert scores["answer_letter"].tolist() == ["B", None, None, "B", None]
    assert scores["score"].tolist() == [1, 0, 0, 1, 1] and scores["author"].tolist()[:4] == [1, 0, 0, 0]


@pytest.mark.parametrize("scored, answer, expected", [
    ((-1, -0.5, -3), "B", 1), ((-1, -0.5, -3), "A", 0), ((-1, -1, -3), "A", 1 / 2), ((-1, -1, -1), "C", 1 / 3),
    ((-np.inf, -1), "B", 1), ((), "A", np.nan),
])
def test_the_likelihood_of_the_right_letter(scored, answer, expected):
    both = metrics.likelihood(scored, "ABC"[: len(scored)], answer)
    assert both == pytest.approx((expected, expected), nan_ok=True)


def test_the_likelihood_of_words_by_their_sum_and_by_character():
    words = ("stippled", "no mitosis", "fat")  # -0.5, -0.4 and -0.6 a character
    scored = (-4.0, -4.0, -1.8)
    assert metrics.likelihood(scored, words, "fat") == (1, 0)
    assert metrics.likelihood(scored, words, "no mitosis") == (0, 1)
    assert metrics.likelihood(scored, words, "stippled") == (0, 0)


@pytest.mark.parametrize("scored, answer", [((-1, np.nan), "A"), ((-1, -2), "C"), ((-1, -2, -3), "A")])
def test_likelihoods_that_do_not_match_the_options_are_refused(scored, answer):
    with pytest.raises(DataError, match="need a log-likelihood each"):
        metrics.likelihood(scored, ("A", "B"), answer)


def test_likelihoods_are_scored_where_predictions_have_them(tmp_path):
    choice = row(kind="choice", answer="B", raw_text="A", options=["x", "y"], option_log_likelihoods=[-2.0, -1.0])
    frame = pd.DataFrame([choice, row(option_log_likelihoods=[])])
    frame.to_parquet(tmp_path / "p.parquet")
    for table in (frame, pd.read_parquet(tmp_path / "p.parquet")):
        assert score.score(table)["likelihood"].tolist() == pytest.approx([1, np.nan], nan_ok=True)
    assert score.score(frame.drop(columns="option_log_likelihoods"))["likelihood"].isna().all()


def test_a_class_with_options_is_scored_among_all_of_them():
    options = ["smudged", "stippled", "vesicular"]
    texts = ["stippled", "Stippled.", "It is stippled", "vesicular", "stippled or vesicular", "not smudged", "B", ""]
    rows = [row(kind="class", question_id="chromatin", answer="stippled", raw_text=text, options=options,
                option_log_likelihoods=[-3.0, -2.0, -1.9]) for text in texts]
    table = score.score(pd.DataFrame(rows))  # no row's answer is vesicular: the options alone say that it is a class
    assert table["score"].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert table["answer_read"].tolist() == ["one", "one", "one", "one", "several", "none", "none", "none"]
    assert set(table["chance"]) == {1 / 3} and table["answer_letter"].isna().all()
    assert set(table["likelihood"]) == {0.0} and set(table["likelihood_norm"]) == {0.0}  # vesicular by both


def test_classes_without_options_are_those_that_occur():
    rows = [row(kind="class", question_id="q", answer=answer, raw_text="low") for answer in ("low", "high")]
    table = score.score(pd.DataFrame(rows))
    assert table["score"].tolist() == [1, 0] and set(table["chance"]) == {0.5} and table["answer_read"].isna().all()


def test_choices_asked_by_letter_too_are_kept_apart():
    rows = pd.DataFrame([row(format=""), row(format="letter"), row(format=None), row(format="letter", decoding="x")])
    rows["decoding"] = rows["decoding"].fillna("greedy") if "decoding" in rows else "greedy"
    assert score.greedy(rows).index.tolist() == [0, 2]
    assert score.by_letter(rows).index.tolist() == [1] and score.sampled(rows).empty
    assert len(score.greedy(rows.drop(columns="format"))) == 3 and score.by_letter(rows.drop(columns="format")).empty

