"""A one-node Slurm with two pretend GPUs, from Debian's packages: it is up inside `with running():`.

The daemons live in a temporary folder. Only slurm.conf and gres.conf must stand in /etc/slurm, where sbatch and squeue
look for them; they open with MARK, and files of a real cluster are never touched.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

MARK = "# Written by medstudy's cluster test, which removes it when it ends.\n"
CONFIG = Path("/etc/slurm")
DAEMONS = ("munged", "slurmctld", "slurmd")
CARDS = 2
START_SECONDS = 60
STOP_SECONDS = 10
SLURM_CONF = """\
ClusterName=medstudy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
# A job that is queued again waits for as long as its first credential lasts; the default is 120 seconds.
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
KillWait=5
MinJobAge=600
ReturnToService=2
SchedulerParameters=batch_sched_delay=0
SlurmdParameters=config_overrides
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} Gres=gpu:{cards}
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""
GRES_CONF = "NodeName=localhost Name=gpu Flags=nvidia_gpu_env File={folder}/nvidia[0-{last}]\n"


def why_not() -> str | None:
    """Why Slurm cannot run here, in words; None if it can."""
    if any(_binary(name) is None for name in DAEMONS):
        return "Slurm is not installed; on Debian and Ubuntu: apt install slurm-wlm munge"
    if os.geteuid() != 0:
        return "Slurm's daemons are started as root; this is another user"
    theirs = [file for file in _files() if file.exists() and not file.read_text().startswith(MARK)]
    if theirs:
        return f"{theirs[0]} is of a Slurm that is in use"
    return None


@contextmanager
def running() -> Iterator[Path]:
    """Run munged, slurmctld and slurmd during the block; yields the folder of their logs."""
    folder = Path(tempfile.mkdtemp(prefix="medstudy-slurm-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for file in _files():
            stack.callback(file.unlink, missing_ok=True)
        _configure(folder)
        key = ["--key-file", f"{folder}/munge.key", "--seed-file", f"{folder}/munge.seed"]
        places = ["--socket", f"{folder}/munge.socket", "--pid-file", f"{folder}/munged.pid"]
        _start(stack, folder, "munged", "--foreground", "--force", *key, *places)
        _wait(lambda: (folder / "munge.socket").exists(), folder, "munged")
        _start(stack, folder, "slurmctld", "-D", "-f", str(CONFIG / "slurm.conf"))
        _start(stack, folder, "slurmd", "-D", "-N", "localhost", "-f", str(CONFIG / "slurm.conf"))
        stack.callback(_cancel_all)
        _wait(lambda: said("sinfo", "--noheader", "--format=%T") in ("idle", "mixed"), folder, "slurmd")
        yield folder


def said(*command: str) -> str:
    """The output of a Slurm command; empty if it fails."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def _configure(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    for number in range(CARDS):
        os.mknod(folder / f"nvidia{number}", 0o20666, os.makedev(1, 3))  # a second /dev/null; plain files are refused
    memory = psutil.virtual_memory().total // 2**20
    values = {"folder": folder, "host": socket.gethostname(), "ports": _ports(2), "memory": memory, "cards": CARDS}
    CONFIG.mkdir(exist_ok=True)
    for file, text in zip(_files(), (SLURM_CONF, GRES_CONF), strict=True):
        file.write_text(MARK + text.format(**values, last=CARDS - 1))


def _start(stack: ExitStack, folder: Path, name: str, *arguments: str) -> None:
    with open(folder / f"{name}.out", "w") as out:
        process = subprocess.Popen([_binary(name), *arguments], stdout=out, stderr=out, start_new_session=True)
    stack.callback(_stop, process)


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cancel_all() -> None:
    """Cancel every job, so that none outlives the daemons."""
    said("scancel", "--full", *said("squeue", "--noheader", "--format=%A").split())
    deadline = time.monotonic() + STOP_SECONDS
    while said("squeue", "--noheader") and time.monotonic() < deadline:
        time.sleep(0.2)


def _wait(ready, folder: Path, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            logs = "\n".join(f"{file.name}:\n{file.read_text()[-2000:]}" for file in sorted(folder.glob(f"{name}.*o*")))
            raise RuntimeError(f"{name} was not up after {START_SECONDS} s.\n{logs}")
        time.sleep(0.2)


def _files() -> tuple[Path, Path]:
    return CONFIG / "slurm.conf", CONFIG / "gres.conf"


def _binary(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def _ports(count: int) -> list[int]:
    """Ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
