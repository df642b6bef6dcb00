"""The kernel server: kernels are forked from it, end with the process that requested them, and are optional."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from medstudy import paths
from medstudy.runs import lock
from medstudy.utils import code_hash
from medstudy.workflow import kernel_server

LIGHT = """
import sys
from medstudy.workflow import kernel_server

kernel_server.PRELOAD = ("ipykernel.kernelapp", "colorsys")
kernel_server.serve(sys.argv[1])
"""
ASK = """
import subprocess, sys

print(subprocess.Popen([sys.executable, "-m", "medstudy.workflow.kernel_server", "attach", *sys.argv[1:]]).pid,
flush=True)
sys.stdin.read()
"""
PRELOADED = """
import importlib, threading
from medstudy.workflow import kernel_server

for name in kernel_server.PRELOAD:
    importlib.import_module(name)
print(threading.active_count())
"""


@pytest.fixture
def address(tmp_path):
    """A server that imports little."""
    made = tmp_path / "s"
    process = subprocess.Popen([sys.executable, "-c", LIGHT, str(made)], cwd=paths.ROOT)
    kernel_server._code(str(made)).write_text(code_hash.content("**/*.py"))
    until(lambda: kernel_server.listens(str(made)))
    yield str(made)
    process.terminate()
    process.wait()


@pytest.fixture
def kernel(address):
    """(manager, client) of a kernel of the server."""
    with asked(address) as client:
        yield client.parent, client


@contextmanager
def asked(address):
    """A client of a kernel of the server."""
    from jupyter_client import KernelManager

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jupyter_client.AsyncKernelManager", KernelManager)  # the same class without asyncio
        manager = kernel_server.manager(address)(kernel_name="python3")
    manager.start_kernel(cwd=str(paths.PACKAGE), env=os.environ | {"PYTHONPATH": str(paths.ROOT)})
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def said(client, code: str) -> str:
    """What a cell prints."""
    texts: list[str] = []
    client.execute_interactive(
        code, timeout=60, output_hook=lambda message: texts.append(message["content"].get("text", ""))
    )
    return "".join(texts).strip()


def test_a_kernel_has_the_imports_the_folder_and_a_process_of_its_own(kernel):
    _, client = kernel
    code = "import os, sys; print(os.getpid(), 'colorsys' in sys.modules, os.getcwd())"
    pid, imported, folder = said(client, code).split()
    assert imported == "True" and folder == str(paths.PACKAGE) and int(pid) != os.getpid()


def test_child_processes_of_a_kernel_report_their_exit_status(kernel):
    _, client = kernel
    assert said(client, "import subprocess; print(subprocess.run(['false']).returncode)") == "1"


def test_a_kernel_ends_with_the_process_that_requested_it(kernel):
    manager, client = kernel
    pid = int(said(client, "import os; print(os.getpid())"))
    psutil.Process(manager.provisioner.process.pid).kill()
    until(lambda: gone(pid))


def test_a_kernel_ends_when_its_notebooks_process_is_killed(address, tmp_path):
    """No process is left that closes the connection."""
    asked = subprocess.Popen(
        [sys.executable, "-c", ASK, address, str(tmp_path / "kernel.json")], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, cwd=paths.ROOT,
    )
    attached = int(asked.stdout.readline())
    until((tmp_path / "kernel.json").exists)
    asked.kill()
    asked.wait()
    until(lambda: gone(attached))


def test_a_killed_kernel_is_seen_as_dead(kernel):
    manager, client = kernel
    psutil.Process(int(said(client, "import os; print(os.getpid())"))).kill()
    until(lambda: not manager.is_alive())


def test_without_a_server_nothing_listens(tmp_path):
    assert not kernel_server.listens(str(tmp_path / "gone"))


def test_a_server_that_imported_other_code_is_left_alone(address):
    assert kernel_server.listens(address)
    kernel_server._code(address).write_text("the hash of other code")
    assert not kernel_server.listens(address)


def test_a_kernel_has_the_gpus_and_the_lock_of_its_client(address, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    monkeypatch.setenv(lock.HELD, str(tmp_path))
    with asked(address) as client:
        code = f"import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['{lock.HELD}'])"
        assert said(client, code) == f"5 {tmp_path}"


@pytest.mark.slow
def test_preloading_starts_no_thread():
    """A fork keeps only the thread that forks: locks of any other thread would stay held for ever."""
    command = [sys.executable, "-c", PRELOADED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT, check=True)
    assert done.stdout.strip() == "1"
