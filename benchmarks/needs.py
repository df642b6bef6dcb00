"""What the stages on a GPU import beyond torch and transformers, and what of it this interpreter lacks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib import metadata

# What a machine with torch and transformers has, with all that these need.
BASE = ("torch", "torchvision", "transformers", "accelerate", "numpy", "pandas", "scipy", "pillow", "psutil", "pyarrow",
        "statsmodels", "matplotlib", "seaborn", "peft", "rich", "jinja2", "filelock", "tqdm", "pyyaml", "requests",
        "tifffile")
ALSO = ("ipywidgets", "defusedxml", "sniffio", "cloudpickle")  # imported where they are there, by others of these
# Module: distribution. A test holds this list to what a fresh process imports.
NEEDED = {
    "annotated_types": "annotated-types",
    "datasets": "datasets",
    "dill": "dill",
    "imagecodecs": "imagecodecs",
    "multiprocess": "multiprocess",
    "nibabel": "nibabel",
    "num2words": "num2words",
    "openslide": "openslide-python",
    "openslide_bin": "openslide-bin",
    "openjpeg": "pylibjpeg-openjpeg",
    "pydantic": "pydantic",
    "pydantic_core": "pydantic-core",
    "pydicom": "pydicom",
    "pylibjpeg": "pylibjpeg",
    "simplejpeg": "simplejpeg",
    "typing_inspection": "typing-inspection",
    "xxhash": "xxhash",
}
OPTIONAL = {
    "flash_attn_2_cuda": "flash-attn 2: a kernel (stage kernels)",
    "flash_attn": "flash-attn-4 or 2: a kernel (stage kernels)",
    "cutlass": "nvidia-cutlass-dsl: flash-attn-4's compiler",
    "trl": "trl: a peer (stage trl)",
    "vllm": "vllm: a peer (stage vllm)",
}
MODULES = ("benchmarks.__main__", "benchmarks.gpu", "benchmarks.gpu_stages", "tests.support.families")


def report() -> int:
    """Print what is here and what is not; the exit status is 1 when something needed is missing."""
    missing = [module for module in NEEDED if importlib.util.find_spec(module) is None]
    for module, distribution in NEEDED.items():
        print(f"{distribution:20} {'missing' if module in missing else _version(distribution)}")
    for module, what in OPTIONAL.items():
        here = importlib.util.find_spec(module) is not None
        print(f"{what}: {'here' if here else 'not here; its lines will be listed as not run'}")
    if missing:
        print("\nWheels that must travel: " + " ".join(NEEDED[module] for module in missing))
    return int(bool(missing))


def loaded() -> set[str]:
    """Distributions that a fresh process has imported for the stages, without BASE, ALSO and what these need."""
    code = "\n".join(f"import {module}" for module in MODULES) + "\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    owners, tops = metadata.packages_distributions(), {name.split(".")[0] for name in done.stdout.split()}
    return {_plain(owner) for top in tops for owner in owners.get(top, ())} - _closure(BASE + ALSO) - {"medstudy"}


def _closure(names: tuple[str, ...]) -> set[str]:
    """These distributions and all that they require without extras."""
    from packaging.requirements import Requirement

    left, found = [_plain(name) for name in names], set()
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        try:
            texts = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        wanted = map(Requirement, texts)
        left += [_plain(one.name) for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "here"
