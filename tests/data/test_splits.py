"""Splits by group: nothing is repeated or lost; caps keep groups together; counts are compared with published ones."""

from dataclasses import replace

import pandas as pd
import pytest
from pydantic import ValidationError

from medstudy import datasets
from medstudy.data import leakage, splits
from medstudy.data.example import SPLITS
from medstudy.data.readers.dataset_card import Card, compared
from medstudy.datasets.build import build
from medstudy.datasets.paper import vqa_rad
from tests.conftest import make_example
from tests.datasets.test_vqa_rad import FEATURES, rows
from tests.support import hub
from tests.support.data_sets import MAKERS


@pytest.fixture
def folder(tmp_path):
    """The fault of VQA-RAD: half of the 30 training images are also in test, with other questions."""
    train, test = rows(30), [row | {"question": "and this?"} for row in rows(20, questions=1, first=15)]
    return hub.repository(tmp_path / "half_shared", {"train": train, "test": test}, FEATURES)


def _built(params, folder):
    table = build(params, folder)
    prints = pd.read_parquet(folder / "fingerprints.parquet")
    return table, leakage.leaks(leakage.find(prints))


def test_vqa_rad_leaks_by_its_own_split_and_not_by_group(folder, tmp_path):
    table, pairs = _built(vqa_rad.Params(path=str(folder)), tmp_path / "source")
    assert pairs["image_b"].nunique() >= 15 and set(pairs["kind"]) == {"exact"}
    shared, none = _built(vqa_rad.Params(path=str(folder), split="group", val_share=0.2), tmp_path / "group")
    assert none.empty and set(shared["split"]) == set(SPLITS)
    assert len(shared) == len(table) == 30 * 2 + 20
    assert shared["image_id"].nunique() == 35 and shared.groupby("image_id")["split"].nunique().max() == 1
    both = shared[shared["image_id"].isin(pairs["image_b"])].groupby("image_id")["question_id"]
    assert both.nunique().tolist() == [3] * pairs["image_b"].nunique()
    assert shared["question_id"].str.split("-").str[0].isin(["train", "val", "test"]).all()


def test_the_new_splits_hang_on_the_seed_and_the_shares(folder):
    def ids(split, **more):
        params = vqa_rad.Params(path=str(folder), split="group", **more)
        return [one.image_id for one in datasets.load(params, split)]

    assert ids("test") == ids("test") != ids("test", seed=1)
    assert len(ids("test", test_share=0.6)) > 2 * len(ids("test", test_share=0.1))
    assert len(ids("train", train=3)) == 3 and set(ids("train", train=3)) <= set(ids("train"))
    with pytest.raises(ValidationError, match="must leave some groups"):
        vqa_rad.Params(path=str(folder), split="group", test_share=0.6, val_share=0.4)


def test_images_that_a_source_names_alike_stay_two(folder):
    class Numbered:
        """Its image ids begin again in each split."""

        def load(params, split):
            for index, one in enumerate(vqa_rad.load(params, split)):
                yield replace(one, image_id=f"{index}")

    params = vqa_rad.Params(path=str(folder), split="group")
    ids = [one.image_id for split in SPLITS for one in splits.by_group(Numbered.load, params, split)]
    held = [one for split in SPLITS for one in splits.by_group(Numbered.load, params, split)]
    shown = {(one.split, one.image_id): one.image.sha256 for one in held}
    assert len(shown) == len(ids) and any("-" in name for name in ids)


def test_a_cap_keeps_groups_together_and_holds_no_more_than_it_takes():
    examples = [replace(make_example(i, (8, 8)), group=f"g{i // 3}") for i in range(60)]
    chosen = list(splits.capped(iter(examples), 9, seed=1))
    assert len(chosen) == 9 and len({one.group for one in chosen}) == 3
    assert [one.image_id for one in chosen] == [one.image_id for one in examples if one in chosen]
    assert [one.image_id for one in splits.capped(reversed(examples), 9, 1)] == [one.image_id for one in chosen][::-1]
    assert list(splits.capped(examples, 0, 1)) == [] and list(splits.capped(examples, None, 1)) == examples


def test_found_stands_beside_published():
    card = Card(url="u", license="l", splits=("train", "test"), schema_from="s", questions={"train": 6, "test": 4})
    table = pd.DataFrame({
        "split": ["train"] * 3 + ["val"] * 2 + ["test"] * 4, "image_id": list("aabcd") + list("efgh"),
        "question_id": range(9),
    })
    rows = compared(card, table).set_index("split")
    assert list(rows.index) == ["train", "test"]
    assert rows["questions"].tolist() == [5, 4] and rows["questions_published"].tolist() == [6, 4]
    assert rows["images"].tolist() == [4, 4] and rows["images_published"].isna().all()
    only = compared(replace(card, splits=("val", "test"), questions={"val": 2}), table).set_index("split")
    assert only.loc["val", ["questions", "questions_published"]].tolist() == [2, 2] and list(only.index) == list(SPLITS)


def test_a_question_of_a_class_keeps_its_name_and_so_its_classes(tmp_path):
    params = MAKERS["hussain"](tmp_path / "source").model_copy(update={"split": "group", "test_share": 0.5})
    every = [question for split in SPLITS for one in datasets.load(params, split) for question in one.questions]
    assert {question.kind for question in every} == {"class"} and len(every) > 3
    assert not any(question.id.startswith(SPLITS) for question in every)
