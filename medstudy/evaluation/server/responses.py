"""The answers of a server on disk: the record of what was asked. One file per request, under its key.

A file is written whole or not at all, so a run that was killed asks only for what is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from medstudy import paths
from medstudy.errors import RunError


@dataclass(frozen=True)
class Responses:
    """A folder of answers."""

    folder: Path

    def get(self, key: str) -> dict | None:
        """The answer to the request of this key; None if it was not asked yet. Raises RunError for a damaged file."""
        file = self._file(key)
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RunError(f"{file} must hold an answer as json, but {error}. Delete it to ask again.") from None

    def put(self, key: str, answer: dict) -> None:
        """Keep an answer."""
        with paths.atomic(self._file(key)) as temporary:
            temporary.write_text(json.dumps(answer, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
