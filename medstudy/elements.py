"""The figures in reading order, by the number and the module of each; and the files that a figure depends on.

Names alone: planning a study imports no drawing library.
"""

from __future__ import annotations

import ast

from medstudy import paths

_ORDER = (
    "native_sizes",
    "what_models_see",
    "native_vs_fixed",
    "mismatch_heatmap",
    "mismatch_by_task",
    "resolution_curves",
    "training_cost",
    "acuity",
    "acuity_thresholds",
    "information_loss",
    "size_strata",
    "learning_curves",
    "controls",
    "by_tag",
)
FIGURES = tuple(f"{number:02d}_{module}" for number, module in enumerate(_ORDER, start=1))


def module(figure: str) -> str:
    """The module of a figure by its numbered name."""
    return figure.partition("_")[2]


def shared() -> tuple[str, ...]:
    """The files, relative to the package, of what every figure is drawn with."""
    own = {*_ORDER, "index"}
    return tuple(f"figures/{file.name}" for file in (paths.PACKAGE / "figures").glob("*.py") if file.stem not in own)


def own(figure: str) -> tuple[str, ...]:
    """A figure's own file, and those of the package, outside figures/, that it imports by itself."""
    file = f"figures/{module(figure)}.py"
    tree = ast.parse((paths.PACKAGE / file).read_text(encoding="utf-8"))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "medstudy"]
    modules += [f"medstudy.{alias.name}" for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module == "medstudy" for alias in node.names]  # fmt: skip
    used = {name.removeprefix("medstudy.").replace(".", "/") for name in modules if name.startswith("medstudy.")}
    files = {f"{name}.py" for name in used if not name.startswith("figures")}
    return (file, *sorted(files & {f.name for f in paths.PACKAGE.glob("*.py")}))
