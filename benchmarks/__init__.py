"""What medstudy promises about time and size, measured against what it replaces."""

from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "benchmarks.md"  # shows the committed results
