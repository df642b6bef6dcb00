"""The findings of reports, with their negations; the opposite of a report scores low."""

import pytest

from medstudy.data.clinical_labels import FINDINGS, f1, labels

REPORT = ("There is a nodule in the left upper lobe. No pleural effusion, focal consolidation, or pneumothorax. "
          "The heart is normal in size.")
OPPOSITE = ("There is no nodule in the left upper lobe. There is a pleural effusion, focal consolidation, and a "
            "pneumothorax. The heart is enlarged.")


@pytest.mark.parametrize("text, found", [
    ("Small left pleural effusion.", {"pleural effusion": "present"}),
    ("No evidence of pneumothorax or effusion.", {"pneumothorax": "absent", "pleural effusion": "absent"}),
    ("Pneumothorax is not seen.", {"pneumothorax": "absent"}),
    ("The effusion has resolved.", {"pleural effusion": "absent"}),
    ("Without fracture.", {"fracture": "absent"}), ("The lungs are free of consolidation", {"consolidation": "absent"}),
    ("No acute findings, but there is a small effusion.", {"pleural effusion": "present"}),
    ("No nodule. Large mass.", {"nodule": "absent", "mass": "present"}),
    ("Pneumonia cannot be excluded.", {"pneumonia": "uncertain"}), ("Possible fracture.", {"fracture": "uncertain"}),
    ("This may represent atelectasis.", {"atelectasis": "uncertain"}),
    ("Lungs are clear.", {"consolidation": "absent", "lung opacity": "absent"}),
    ("Heart size is normal.", {"cardiomegaly": "absent"}),
    ("The heart is mildly enlarged.", {"cardiomegaly": "present"}),
    ("Mitotic figures and necrosis are present.", {"mitosis": "present", "necrosis": "present"}),
    ("No nodule in the right lung. A nodule in the left lung.", {"nodule": "present"}),
    ("A film of the chest.", {}), ("", {}),
])
def test_findings_and_their_state(text, found):
    assert dict(labels(text)) == found


def test_a_report_is_right_by_itself_and_its_opposite_is_wrong():
    assert f1(REPORT, REPORT) == f1(OPPOSITE, OPPOSITE) == 1
    assert f1(OPPOSITE, REPORT) == f1(REPORT, OPPOSITE) == 0


def test_a_missed_and_an_added_finding_cost():
    assert f1("Nodule.", "Nodule. No effusion.") == pytest.approx(2 / 3)
    assert f1("Nodule. Mass.", "Nodule.") == pytest.approx(2 / 3)
    assert f1("", "Nodule.") == 0 and f1("Nodule.", "A film.") is None


@pytest.mark.parametrize("name", [name for name in FINDINGS if name not in ("cardiomegaly", "enlarged mediastinum",
                                                                            "support device")])
def test_every_finding_is_read_by_its_own_name_and_denied(name):
    assert (name, "present") in labels(f"There is {name}.") and (name, "absent") in labels(f"There is no {name}.")
