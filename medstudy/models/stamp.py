"""The stamp of a checkpoint, medstudy.json: how it was trained, its resolution above all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from transformers.utils import cached_file

from medstudy.resolution.describe import words
from medstudy.resolution.plan import trained_on
from medstudy.resolution.policies import Training
from medstudy.utils import redact

STAMP = "medstudy.json"


def stamp_of(source: str, revision: str | None = None) -> dict | None:
    """The stamp of a checkpoint by folder or hub id; None if there is no stamp, or one without a resolution."""
    quiet = {f"_raise_exceptions_for_{name}": False for name in ("gated_repo", "missing_entries", "connection_errors")}
    try:
        file = cached_file(str(Path(source).expanduser()), STAMP, revision=revision, **quiet)
    except OSError:  # neither a folder nor a hub id: loading the model raises a clear error
        file = None
    if file is None:
        return None
    try:
        stamp = json.loads(Path(file).read_text(encoding="utf-8"))
        return stamp if policy_of(stamp) else None
    except (ValueError, AttributeError):
        return None


def policy_of(stamp: dict) -> Training | None:
    """The resolution policy that a checkpoint was trained under; None when its stamp has no policy that we know."""
    try:
        return TypeAdapter(Training).validate_python(stamp.get("policy"))
    except ValidationError:
        return None


def resolution_note(source: str, labels: Sequence[str] = (), revision: str | None = None) -> str | None:
    """At which resolution a checkpoint of medstudy was trained, and which of the policies `labels` differ from it.

    None for a checkpoint that is not medstudy's.
    """
    stamp = stamp_of(source, revision)
    if stamp is None:
        return None
    policy = policy_of(stamp)
    others = [label for label in labels if label not in trained_on(policy)]
    known = f"{redact.last(source)} was trained by medstudy at this resolution: {words(policy)}."
    warned = f" {', '.join(others)}: another resolution, at which it may do worse." if others else ""
    return known + warned
