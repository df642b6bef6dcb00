"""A kernel server: one process imports torch and transformers once, and the kernels of a study are forked from it.

Those imports take 10 to 20 s of a core, as long as the work of a small job, and a study has dozens of jobs. Without a
server, notebooks start their kernels in the ordinary way and give the same results.

    workflow.run ─► server ─► serve: import, then fork a kernel for every connection
    notebook.execute ─► manager(address): jupyter starts `attach` as its kernel process, which lives exactly as long as
                        the forked kernel; when it dies, the kernel ends
"""

from __future__ import annotations

import importlib
import json
import os
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
from medstudy.runs import lock
from medstudy.utils import code_hash, devices

PRELOAD = (
    "medstudy.training.train",
    "medstudy.evaluation.evaluate",
    "medstudy.report.pages.publish",
    "transformers.models.qwen2_vl.modeling_qwen2_vl",
    "ipykernel.kernelapp",
)
INLINE = "module://matplotlib_inline.backend_inline"  # as ipykernel sets it: figures appear in the notebook
PASSED = (devices.VARIABLE, lock.HELD)  # variables of the client's environment that its kernel gets


@contextmanager
def server(log: Path) -> Iterator[str]:
    """Run a kernel server during the block; yields its address, a path that must be short. log: the server's log."""
    with tempfile.TemporaryDirectory(prefix="medstudy-") as folder, open(log, "w", encoding="utf-8") as stream:
        address = f"{folder}/warm"
        _code(address).write_text(code_hash.content("**/*.py"), encoding="utf-8")
        command = [sys.executable, "-m", "medstudy.workflow.kernel_server", "serve", address]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}  # ipykernel prints how to connect
        process = subprocess.Popen(command, cwd=paths.ROOT, stderr=stream, **quiet)
        try:
            yield address
        finally:
            process.terminate()
            process.wait()


def listens(address: str) -> bool:
    """Whether a server listens at this address and has imported the present code of the package."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(address)
        return _code(address).read_text(encoding="utf-8") == code_hash.content("**/*.py")
    except OSError:
        return False


def _code(address: str) -> Path:
    """The file with the hash of the code that a server imports."""
    return Path(f"{address}.code")


def manager(address: str) -> type:
    """A jupyter kernel manager class that gets its kernels from the server at `address`."""
    from jupyter_client import AsyncKernelManager

    class WarmKernelManager(AsyncKernelManager):
        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            connection = os.path.realpath(self.connection_file)
            return [sys.executable, "-m", "medstudy.workflow.kernel_server", "attach", address, connection]

    return WarmKernelManager


def serve(address: str) -> None:
    """Listen, import, then fork a kernel for every connection until the parent process ends."""
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        listener.settimeout(1)
        os.environ.setdefault("MPLBACKEND", INLINE)  # matplotlib reads it when it is imported, before there is a kernel
        for name in PRELOAD:
            importlib.import_module(name)
        for file in code_hash.matching("**/*.py"):
            code_hash.syntax_of(file)  # kernels hash the code
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # kernels that end leave no zombies
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
    """Request a kernel in this folder and stay until the kernel or our parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        passed = {name: os.environ[name] for name in PASSED if name in os.environ}
        connection.sendall(json.dumps([os.getcwd(), connection_file, passed]).encode() + b"\n")
        while os.getppid() == parent and not select.select([connection], [], [], 1)[0]:
            pass


def _kernel(connection: socket.socket) -> None:
    """Be the kernel, in the forked process, until it is shut down or its client is gone. Does not return."""
    request = connection.makefile().readline()
    if not request:  # `listens` probed the server
        os._exit(0)
    folder, connection_file, passed = json.loads(request)
    os.environ |= passed
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
