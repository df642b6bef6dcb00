"""pyproject.toml, environment.yml, requirements.lock, the Makefile and CI agree; the package is complete."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile

import hypothesis
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from medstudy import paths

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED = ("cluster", "docs", "lab", "server", "test")
REQUIRED = [Requirement(text) for part in (PROJECT["dependencies"], *map(EXTRAS.get, LOCKED)) for text in part]
LOCK = (paths.ROOT / "requirements.lock").read_text()
ENVIRONMENT = yaml.safe_load((paths.ROOT / "environment.yml").read_text())


def locked() -> dict[str, list[Requirement]]:
    """Every entry of the lock by name; some names have one entry per version of Python."""
    entries: dict[str, list[Requirement]] = {}
    for line in LOCK.splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            requirement = Requirement(line.removesuffix("\\").strip())
            entries.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return entries


@pytest.mark.parametrize("requirement", REQUIRED, ids=str)
def test_the_lock_satisfies_pyproject(requirement):
    entries = locked()[canonicalize_name(requirement.name)]
    versions = [next(iter(entry.specifier)).version for entry in entries]
    assert all(requirement.specifier.contains(version) for version in versions)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_gives_one_version_of_everything_for_each_python(python):
    where = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    for name, entries in locked().items():
        fitting = [entry for entry in entries if entry.marker is None or entry.marker.evaluate(where)]
        assert len(fitting) <= 1, name
    assert [str(entry.specifier) for entry in locked()["torch"]] == ["==2.15.0"]


def test_every_locked_package_has_hashes_and_none_an_address():
    blocks = re.split(r"\n(?=[A-Za-z0-9])", LOCK)
    assert len(blocks) > 100
    assert all("--hash=sha256:" in block for block in blocks)
    assert "/" not in LOCK  # neither an address nor a path
    assert not re.search(r"--(extra-)?index-url|--find-links", LOCK)


def test_environment_yml_agrees_with_pyproject():
    conda = [item for item in ENVIRONMENT["dependencies"] if isinstance(item, str)]
    python = next(Requirement(item) for item in conda if item.startswith("python"))
    assert python.specifier == SpecifierSet(PROJECT["requires-python"])
    pip = next(item["pip"] for item in ENVIRONMENT["dependencies"] if isinstance(item, dict))
    assert {str(Requirement(item)) for item in pip if item != "-e ."} == {str(item) for item in REQUIRED}


def test_supported_versions_are_the_promised_ones():
    lower = {requirement.name: str(requirement.specifier) for requirement in REQUIRED}
    assert (lower["torch"], lower["transformers"]) == (">=2.11", ">=5.17")
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert [Requirement(text).name for text in EXTRAS["flash"]] == ["flash-attn-4"]  # flash-attn has no wheels
    assert not {"flash-attn", "flash-attn-4"} & set(locked())


def test_environment_yml_offers_flash_attention_to_those_who_take_out_a_comment():
    """Installed by default it would break machines without CUDA; the line agrees with the extra."""
    text = (paths.ROOT / "environment.yml").read_text()
    (line,) = re.findall(r"^ +# (- flash-attn-4.*)$", text, re.MULTILINE)
    offered, extra = Requirement(line.removeprefix("- ")), Requirement(EXTRAS["flash"][0])
    assert (offered.name, offered.specifier) == (extra.name, extra.specifier)
    assert not any("flash" in str(item) for item in ENVIRONMENT["dependencies"])


def test_ci_is_executable_and_runs_the_readme_command():
    script = paths.ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line.startswith("make ")]
    assert commands == ["make test test-all", "make cluster-test"]


def test_make_runs_every_test_once():
    """All targets in one call of `make`: lint, the fast tests, then the slow ones."""
    command = ["make", "--dry-run", "--no-print-directory", "test", "test-all"]
    lines = subprocess.run(command, cwd=paths.ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert sum("ruff check" in line for line in lines) == 1 and sum("install.sh" in line for line in lines) == 1
    runs = [shlex.split(line) for line in lines if " pytest " in line]
    chosen = [words[words.index("-m", words.index("pytest")) + 1] for words in runs]
    assert chosen == ["not slow", "slow"]


def test_hypothesis_draws_the_same_in_every_run():
    default = hypothesis.settings()
    assert default.derandomize and default.deadline is None


def test_install_refuses_another_python(tmp_path):
    """The check precedes all downloads."""
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho 3.9\n")
    old.chmod(0o755)
    done = _install(tmp_path, str(old))
    assert done.returncode == 2 and "3.11, 3.12 or 3.13 is needed" in done.stderr and "is 3.9" in done.stderr
    missing = _install(tmp_path, "python-that-is-not-there")
    assert missing.returncode == 2 and "there is no 'python-that-is-not-there'" in missing.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_wheel_holds_the_base_model_and_the_bundled_images(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    shutil.copytree(paths.PACKAGE, source / "medstudy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (paths.ROOT / name).exists():
            shutil.copy(paths.ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    shipped = {str(file.relative_to(paths.ROOT)) for file in paths.PACKAGE.rglob("*") if file.is_file()}
    assert {name for name in shipped if "/." not in name and "__pycache__" not in name} <= held
    base = [file for file in paths.BASE.rglob("*") if file.is_file()]
    assert any(file.suffix == ".safetensors" for file in base)
    assert sum(file.stat().st_size for file in base) <= 8e6


def _install(folder, python: str) -> subprocess.CompletedProcess:
    (folder / "workflow").mkdir(exist_ok=True)
    shutil.copy(paths.ROOT / "workflow" / "install.sh", folder / "workflow")
    shutil.copy(paths.ROOT / "requirements.lock", folder)
    return subprocess.run([folder / "workflow" / "install.sh", python], capture_output=True, text=True)
