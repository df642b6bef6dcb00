"""The first line of a notebook: `study, job = open_job(globals())`.

It checks the parameters cell, loads the study and finds the job. If a person opened the notebook, it also makes the
jobs that this job needs. The cells that follow use `study` (the settings for one model) and `job` (its name,
parameters, folder and inputs); they plan nothing again. The cell that makes the run locks it and writes its record:
`with recorded(study, job) as new:`.

The parameter `overrides` changes settings of the study: `name: value` pairs in YAML, with dotted names for nested
settings and positions for members of a list. The changed study gets its own name and its own params file in
runs/overrides/, so it never replaces runs or figures of the original study.

    training.learning_rate: 0.001
    datasets.0.train: 16
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from medstudy import params, paths
from medstudy.errors import ParamsError
from medstudy.params import Study
from medstudy.runs.plan import Job
from medstudy.utils import yaml_files
from medstudy.workflow import needs, parameters

GIVEN = "_given"  # in a notebook: the study that replaced the parameter `study`, that text, and the params file
NAME_LENGTH = 50  # characters of a study's name that the name of a changed study keeps
EXAMPLE = "`training.learning_rate: 0.001`"


def open_job(namespace: dict[str, Any]) -> tuple[Study, Job]:
    """The study and the job that a notebook's parameters `study`, `run` and `overrides` name.

    The cell may run again: an unchanged parameters cell keeps its meaning. Raises ParamsError for a wrong parameter,
    and RunError if a job that this one needs has failed.
    """
    file, values = _checked(namespace)
    study, job = needs.prepare(file, values["run"])
    _replace(namespace, values["study"], file, study)
    print(f"{job.name} of the study {study.title}: {job.dir.name}")
    return study, job


def load_study(namespace: dict[str, Any]) -> Study:
    """The study that the parameters `study` and `overrides` name, in a notebook that is not a job; makes no run.

    Raises ParamsError for a wrong parameter.
    """
    file, values = _checked(namespace)
    study = params.load(file)
    _replace(namespace, values["study"], file, study)
    return study


def run_study(namespace: dict[str, Any]) -> None:
    """Make the missing runs of the study that `load_study` loaded, as `medstudy run` does. Raises RunError."""
    given = namespace[GIVEN]
    needs.make(given["object"], given["file"])


def overridden(file: str, overrides: str) -> str:
    """The params file of a study with some settings changed; the study's own file if nothing is changed.

    Raises ParamsError for an unknown setting and names the nearest valid one.
    """
    changes = yaml_files.loads(overrides, "overrides")
    if changes is None:
        return file
    if not isinstance(changes, dict):
        raise ParamsError(f"overrides must hold `name: value` pairs such as {EXAMPLE}, got {overrides!r}.")
    source = paths.resolve(file)
    content = params.read(file)
    for name, value in changes.items():
        _change(content, name, value)
    if "study" not in changes:
        digest = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()
        content["study"] = f"{str(content.get('study', ''))[:NAME_LENGTH]}-{digest[:8]}"
    study = params.parse(content, f"{source.name} with overrides", source.resolve().parent)
    target = study.runs / "overrides" / f"{study.study}.yaml"
    with paths.atomic(target) as temporary:
        temporary.write_text(yaml_files.dump(study.model_dump(mode="json", exclude_unset=True)), encoding="utf-8")
    return str(target)


def _change(content: Any, name: str, value: Any) -> None:
    """Set one setting, given by its dotted name, in the content of a params file."""
    *parents, last = name.split(".")
    for part in parents:
        key = _key(content, part, name)
        if isinstance(content, dict) and content.get(key) is None:
            content[key] = {}  # settings that the file leaves out
        content = content[key]
    content[_key(content, last, name)] = value


def _key(content: Any, part: str, name: str) -> str | int:
    """A name in a mapping, a position in a list."""
    if isinstance(content, dict):
        return part
    if not isinstance(content, list):
        raise ParamsError(f"overrides: {name} must name a setting, but {content!r} has no setting {part!r}.")
    if not (part.isdecimal() and int(part) < len(content)):
        raise ParamsError(
            f"overrides: {name} must name a member of a list by its position, 0 to {len(content) - 1}, got {part!r}."
        )
    return int(part)


def _checked(namespace: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The params file of the study, its overrides applied, and the parameters as they were given."""
    values = namespace | _given(namespace)
    parameters.check(values)
    return overridden(values["study"], values.get("overrides", "")), values


def _replace(namespace: dict[str, Any], text: str, file: str, study: Study) -> None:
    """Replace the name of the study with the study itself, and remember both."""
    namespace[GIVEN] = {"study": text, "file": file, "object": study}
    namespace["study"] = study


def _given(namespace: dict[str, Any]) -> dict[str, str]:
    """The name of the study, if an earlier call replaced it with the study itself."""
    given = namespace.get(GIVEN)
    return {"study": given["study"]} if given and namespace.get("study") is given["object"] else {}
