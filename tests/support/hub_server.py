"""A local hub: folders of repositories, served at the few addresses that the hub's client requests.

    with hub_server.serve(folder) as url: …          # folder/models/OWNER/NAME, folder/datasets/OWNER/NAME
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/?]+))?/?([^?]*)")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/([^?]+)")


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address, and a list that grows with each request."""
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"folder": folder, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        if found := API.match(self.path):
            kind, name, what, _, below = found.groups()
            root = self.folder / kind / name
            if root.is_dir() and what == "tree":
                self._json([entry for entry in map(lambda file: _entry(root, file), _files(root)) if _in(entry, below)])
            elif root.is_dir() and what != "paths-info":
                self._json(_info(name, root))
            else:
                self._missing()
        elif found := FILE.match(self.path):
            kind, name, file = found.groups()
            self._file(self.folder / ("datasets" if kind else "models") / name / file)
        else:
            self._missing()

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        kind, name, *_ = API.match(self.path).groups()
        root = self.folder / kind / name
        self._json([_entry(root, root / path) for path in body.get("paths", []) if (root / path).is_file()])

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self._missing()
            return
        content = file.read_bytes()
        self._send(200, content, "application/octet-stream", {"ETag": f'"{_oid(file)}"', "Accept-Ranges": "bytes"})

    def _json(self, content) -> None:
        self._send(200, json.dumps(content).encode(), "application/json")

    def _missing(self) -> None:
        self._send(404, b"{}", "application/json", {"X-Error-Code": "EntryNotFound"})

    def _send(self, status: int, content: bytes, kind: str, headers: dict | None = None) -> None:
        self.asked.append(f"{self.command} {self.path} {status}")
        self.send_response(status)
        size = {"Content-Type": kind, "Content-Length": str(len(content)), "X-Repo-Commit": COMMIT}
        for name, value in (size | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass


def _info(name: str, root: Path) -> dict:
    files = [{"rfilename": str(file.relative_to(root)), "size": file.stat().st_size} for file in _files(root)]
    about = {"id": name, "sha": COMMIT, "siblings": files, "tags": [], "private": False, "gated": False}
    return about | {"modelId": name, "downloads": 0, "likes": 0, "disabled": False}


def _entry(root: Path, file: Path) -> dict:
    return {"type": "file", "path": str(file.relative_to(root)), "size": file.stat().st_size, "oid": _oid(file)}


def _in(entry: dict, below: str) -> bool:
    return not below or entry["path"].startswith(f"{below.rstrip('/')}/")


def _files(root: Path) -> list[Path]:
    return sorted(file for file in root.rglob("*") if file.is_file())


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
