"""Warm kernels: one process imports torch and transformers once, and the kernels of a run are forked from it.

Those imports take 10 to 20 s of a core, as long as a small job's own work, and a study has dozens of jobs. A server
that is not there changes nothing but the time: a notebook then starts its kernel in the ordinary way.

    workflow.run ─► server(runs) ─► serve: import, then fork a kernel for every connection
    notebook.execute ─► manager(socket): what jupyter takes for the kernel is `attach`, a process that lives exactly as
                        long as the forked kernel, and whose death ends that
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medstudy import paths

PRELOAD = (
    "medstudy.training",
    "medstudy.evaluation",
    "medstudy.report",
    "transformers.models.qwen2_vl.modeling_qwen2_vl",
    "ipykernel.kernelapp",
)
CARDS = "CUDA_VISIBLE_DEVICES"  # of the process that asks for a kernel; the server's own says nothing of it


def pointer(runs: Path) -> Path:
    """A file that holds the socket's path, which must be short; of this machine and allocation of Slurm alone."""
    return runs / "logs" / f"warm-{platform.node()}-{os.environ.get('SLURM_JOB_ID', 0)}.socket"


@contextmanager
def server(runs: Path) -> Iterator[None]:
    """A server for the kernels of every notebook under `runs`, as long as the block lasts."""
    known = pointer(runs)
    with tempfile.TemporaryDirectory(prefix="medstudy-") as folder, open(known.with_suffix(".txt"), "w") as log:
        address = f"{folder}/warm"
        command = [sys.executable, "-m", "medstudy.warm", "serve", address]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}  # ipykernel says how to connect by hand
        process = subprocess.Popen(command, cwd=paths.ROOT, stderr=log, **quiet)
        known.write_text(address, encoding="utf-8")
        try:
            yield
        finally:
            if known.is_file() and known.read_text(encoding="utf-8") == address:  # else another's
                known.unlink()
            process.terminate()
            process.wait()


def find(runs: Path) -> str | None:
    """The socket of a server that listens for these runs, if there is one."""
    try:
        address = pointer(runs).read_text(encoding="utf-8")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(address)
    except OSError:
        return None
    return address


def manager(address: str) -> type:
    """A jupyter kernel manager that gets its kernels from the server at `address`."""
    from jupyter_client import AsyncKernelManager

    class WarmKernelManager(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            return [sys.executable, "-m", "medstudy.warm", "attach", address, os.path.realpath(self.connection_file)]

    return WarmKernelManager


def serve(address: str) -> None:
    """Listen, import, and fork a kernel for every connection, until the parent process ends."""
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        listener.settimeout(1)
        for name in PRELOAD:
            importlib.import_module(name)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended kernels leave no zombies
        while os.getppid() == parent:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                listener.close()
                _kernel(connection)
            connection.close()


def attach(address: str, connection_file: str) -> None:
    """Ask for a kernel in this folder, and stay until it ends or our parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(json.dumps([os.getcwd(), connection_file, os.environ.get(CARDS)]).encode() + b"\n")
        while os.getppid() == parent and not select.select([connection], [], [], 1)[0]:
            pass


def _kernel(connection: socket.socket) -> None:
    """In the forked process: be the kernel, until it is shut down or the other side is gone. Does not return."""
    request = connection.makefile().readline()
    if not request:  # somebody only looked whether we are there
        os._exit(0)
    folder, connection_file, cards = json.loads(request)
    if cards is not None:
        os.environ[CARDS] = cards
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(folder)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    try:
        from ipykernel.kernelapp import launch_new_instance

        launch_new_instance(argv=["-f", connection_file])
    finally:
        os._exit(0)


def _end_with(connection: socket.socket) -> None:
    connection.recv(1)
    os._exit(1)


if __name__ == "__main__":
    {"serve": serve, "attach": attach}[sys.argv[1]](*sys.argv[2:])
