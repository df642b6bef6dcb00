"""The findings that a report states, denies or suspects, by rules.

    labels("No pneumothorax. Small effusion.")   # {("pneumothorax", "absent"), ("pleural effusion", "present")}

The findings are the observations of the CheXpert labeler (arXiv 1901.07031) and those that other images are reported
by. A negation denies what follows it in its clause, and some words deny what precedes them, as in NegEx (Chapman 2001,
doi 10.1006/jbin.2001.1029); hedges make a finding uncertain. These are our own rules, because the labeler is on no
package index. They read English only. Reports that mention no finding have no labels.
"""

from __future__ import annotations

import re
from functools import lru_cache

Label = tuple[str, str]  # a finding, and present, absent or uncertain
FINDINGS = {
    "cardiomegaly": r"cardiomegaly|(?:enlarged|enlargement of the) (?:heart|cardiac (?:silhouette|size))"
                    r"|(?:heart|cardiac silhouette|cardiac size|heart size) (?:is |are )?(?:\w+ )?enlarged",
    "enlarged mediastinum": r"(?:widened|enlarged|widening of the) (?:cardio)?mediastin\w+",
    "pleural effusion": r"(?:pleural )?effusions?|pleural fluid|blunting of the \w+ ?costophrenic angles?",
    "pneumothorax": r"pneumothora(?:x|ces)",
    "consolidation": r"consolidations?|airspace disease|air[- ]space opacit\w+",
    "lung opacity": r"opacit(?:y|ies)|opacification|infiltrates?",
    "edema": r"o?edema|vascular congestion|pulmonary congestion",
    "pneumonia": r"pneumonia|infectious process",
    "atelectasis": r"atelecta(?:sis|ses|tic)|lung collapse",
    "nodule": r"nodul(?:e|es|ar)",
    "mass": r"mass(?:es)?",
    "fracture": r"fractures?",
    "pleural thickening": r"pleural thickening",
    "support device": r"(?:endotracheal|nasogastric|enteric|chest|tracheostomy) tubes?"
                      r"|central (?:venous )?(?:line|catheter)|pacemaker|picc(?: line)?|sternotomy wires",
    "emphysema": r"emphysema\w*|hyperinflat\w+",
    "fibrosis": r"fibro(?:sis|tic)|reticular pattern|reticulation",
    "hernia": r"hernias?",
    "calcification": r"(?:micro)?calcifications?|calcified",
    "hemorrhage": r"ha?emorrhages?|bleeding|ha?ematomas?",
    "infarct": r"infarct(?:s|ion|ions)?|isch(?:a)?emia",
    "tumor": r"tumou?rs?|neoplasms?|carcinomas?|malignan(?:cy|t)|metasta(?:sis|ses|tic)",
    "cyst": r"cysts?",
    "necrosis": r"necro(?:sis|tic)",
    "mitosis": r"mito(?:sis|ses|tic figures?)",
    "inflammation": r"inflammat(?:ion|ory)",
    "lymphadenopathy": r"lymphadenopathy|enlarged lymph nodes?",
    "hydrocephalus": r"hydrocephalus",
    "stone": r"stones?|calcul(?:us|i)",
}
_FINDING = {name: re.compile(rf"\b(?:{pattern})\b") for name, pattern in FINDINGS.items()}
NORMAL = tuple((re.compile(rf"\b(?:{pattern})\b"), absent) for pattern, absent in (  # phrases that deny findings
    (r"lungs? (?:is|are|remains?|fields? (?:is|are)) (?:\w+ )?clear|clear lungs?",
     ("consolidation", "lung opacity")),
    (r"(?:heart|cardiac silhouette|heart size|cardiac size|cardiomediastinal silhouette)"
     r"(?: size)? (?:is|are|and \w+ (?:is|are)) (?:within )?normal", ("cardiomegaly",)),
    (r"normal (?:heart|cardiac) (?:size|silhouette)", ("cardiomegaly",)),
))
_BEFORE = re.compile(r"\b(?:no|not|without|neither|nor|denies|negative for|free of|absence of|lack of|never|cannot see"
                     r"|resolved|resolution of|rather than)\b")
_AFTER = re.compile(r"\A[\w\s,]{0,30}?\b(?:(?:is|are|was|were|has been|have been|has|have) (?:not |no longer )"
                    r"|(?:is|are|was|were) (?:absent|excluded)|(?:is|are|was|were|has been|have been)? ?ruled out"
                    r"|(?:has|have) (?:\w+ )?resolved|absent\b)")
_HEDGE = re.compile(r"\b(?:may|might|could|possibl[ey]|probabl[ey]|likely|suspicious for|suspected|suspicion"
                    r"|concern(?:ing)?|questionable|cannot (?:be )?exclude[d]?|not excluded|versus|differential)\b")
_SENTENCE = re.compile(r"(?<=[.;!?\n])\s+|\n")
_CLAUSE = re.compile(r",? (?:but|however|although|though|except|while|whereas|yet|aside from|apart from|otherwise)\b"
                     r"|, (?:and )?(?:there (?:is|are)|with)\b")


@lru_cache(maxsize=4096)
def labels(report: str) -> frozenset[Label]:
    """The findings that a report mentions, each with its state; of several states of one, the most certain presence."""
    states: dict[str, set[str]] = {}
    for clause in _clauses(report.lower()):
        for pattern, absent in NORMAL:
            if pattern.search(clause) and not re.search(r"\bnot\b", clause):
                for name in absent:
                    states.setdefault(name, set()).add("absent")
        for name, pattern in _FINDING.items():
            for match in pattern.finditer(clause):
                states.setdefault(name, set()).add(_state(clause[: match.start()], clause[match.end() :]))
    order = ("present", "uncertain", "absent")
    return frozenset((name, next(state for state in order if state in known)) for name, known in states.items())


def _clauses(text: str) -> list[str]:
    return [part for sentence in _SENTENCE.split(text) for part in _CLAUSE.split(sentence) if part.strip()]


def _state(before: str, after: str) -> str:
    """Whether a finding is stated, denied or suspected, from what stands before and after it in its clause."""
    if re.search(r"cannot (?:be )?exclude|not (?:be )?excluded", before + after):
        return "uncertain"
    if _BEFORE.search(before) or _AFTER.match(after):
        return "absent"
    return "uncertain" if _HEDGE.search(before) or _HEDGE.search(after[:40]) else "present"


def f1(prediction: str, reference: str) -> float | None:
    """F1 of the labels of a report, state included, so that the opposite of a reference scores 0.

    None if the reference mentions no finding: then there is nothing to compare.
    """
    given, true = labels(prediction), labels(reference)
    if not true:
        return None
    shared = len(given & true)
    return 2 * shared / (len(given) + len(true)) if shared else 0.0
