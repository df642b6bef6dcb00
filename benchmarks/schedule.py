"""Stages in order, each with a time limit, in one process that keeps its model; results are kept as each line is made.

The process reads a request a line (JSON) and answers with events a line on a pipe of its own: {"about": …} or
{"refused": …} of itself, then {"line": …}, {"task": …, "state": …}, {"end": true}. When a stage is over its limit, the
process and all that it started are killed, and the next stage gets a fresh one. So does the stage after one whose
process died or asked for it ({"end": true, "spent": true}).
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medstudy import paths

DONE, FAILED, CUT, NOT_RUN = "done", "failed", "cut", "not run"


@dataclass(frozen=True)
class Stage:
    """seconds: its limit; least: what must be left of all time to start it; alone: it gets a process of its own."""

    name: str
    seconds: float
    least: float
    alone: bool = False


class Results:
    """A list of lines in FILE.json, and in FILE.about.json what they were made on and how each stage ended."""

    def __init__(self, file: Path, about: dict):
        self.file, self.notes = file, file.with_suffix(".about.json")
        self.lines: list[dict] = json.loads(file.read_text()) if file.is_file() else []
        kept = json.loads(self.notes.read_text()).get("stages", {}) if self.notes.is_file() else {}
        self.stages: dict[str, dict] = kept
        self.about = about

    def forget(self, stage: str) -> None:
        """Before a stage is run again from its beginning."""
        self.lines = [line for line in self.lines if line.get("stage") != stage]
        self.stages.pop(stage, None)

    def add(self, stage: str, line: dict) -> None:
        """A line takes the place of an earlier one of its name, peer and stage; lines stay in their order."""
        line = {**line, "stage": stage, **{name: self.about.get(name) for name in ("device", "commit")}}
        keys = ("stage", "name", "peer_name")
        same = [i for i, old in enumerate(self.lines) if all(old.get(key) == line.get(key) for key in keys)]
        if same:
            self.lines[same[0]] = line
        else:
            self.lines.append(line)
        self.write()

    def task(self, stage: str, name: str, state: str) -> None:
        self.stages.setdefault(stage, {"tasks": {}})["tasks"][name] = state
        self.write()

    def close(self, stage: str, state: str, seconds: float, why: str | None = None) -> None:
        kept = self.stages.setdefault(stage, {"tasks": {}})
        kept.update(state=state, seconds=round(seconds, 1))
        kept.pop("why", None)
        if why:
            kept["why"] = why
        self.write()

    def done(self, stage: str) -> bool:
        return self.stages.get(stage, {}).get("state") == DONE

    def tasks(self, stage: str) -> list[str]:
        """Those that need not be run again."""
        return [name for name, state in self.stages.get(stage, {}).get("tasks", {}).items() if state == DONE]

    def write(self) -> None:
        for path, content in ((self.file, self.lines), (self.notes, self.about | {"stages": self.stages})):
            with paths.atomic(path) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


class Refused(SystemExit):
    """The process cannot work here at all: nothing that an earlier run left is touched."""


class Ended(Exception):
    """The process is no longer there."""


class Over(Exception):
    """The time is over."""


class Worker:
    """A process in a group of its own, so that all that it started is killed with it."""

    def __init__(self, command: Sequence[str], log: Path):
        read, write = os.pipe()
        self.log, self.events, self.rest = log, read, b""
        with open(log, "ab") as stream:
            self.process = subprocess.Popen(
                [*command, "--events", str(write)],
                stdin=subprocess.PIPE, stdout=stream, stderr=stream, pass_fds=(write,), process_group=0,
            )
        os.close(write)

    def ask(self, request: dict, until: float) -> Iterator[dict]:
        """The events of one request, up to its end. Raises Over at `until` (of the monotonic clock), Ended."""
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Ended(self._last_words()) from None
        while True:
            *whole, self.rest = self.rest.split(b"\n")
            for text in whole:
                event = json.loads(text)
                yield event
                if event.get("end"):
                    return
            left = until - time.monotonic()
            if left <= 0:
                raise Over
            if select.select([self.events], [], [], left)[0]:
                new = os.read(self.events, 65536)
                if not new:
                    raise Ended(self._last_words())
                self.rest += new

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdin.close()
        os.close(self.events)

    def _last_words(self) -> str:
        status = self.process.wait()
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"its process ended with status {status}: {' / '.join(lines[-3:])}"


def run(stages: Sequence[Stage], seconds: float, start: Callable[[], Worker], results: Results, resume: bool = False,
        say: Callable[[str], None] = print) -> None:
    """Every stage that fits into the time, in order. resume: leave out what an earlier run finished."""
    end, worker = time.monotonic() + seconds, None
    try:
        for stage in stages:
            if resume and results.done(stage.name):
                say(f"{stage.name}: done before")
                continue
            left = end - time.monotonic()
            if left < stage.least:
                if not resume:
                    results.forget(stage.name)
                why = f"{max(0, left):.0f} s were left, and it needs at least {stage.least:g}"
                results.close(stage.name, NOT_RUN, 0, why)
                say(f"{stage.name}: not run: {why}")
                continue
            if stage.alone and worker is not None:
                worker.kill()
                worker = None
            worker = worker or start()
            if not _stage(stage, min(stage.seconds, left), worker, results, resume, say) or stage.alone:
                worker.kill()
                worker = None
    finally:
        if worker is not None:
            worker.kill()


def _stage(stage: Stage, seconds: float, worker: Worker, results: Results, resume: bool,
           say: Callable[[str], None]) -> bool:
    """Run one stage; returns whether its process can be used again. What an earlier run left goes once it has begun."""
    started, kept, failed, begun = time.monotonic(), False, [], resume
    say(f"{stage.name}: at most {seconds:.0f} s")
    try:
        done = results.tasks(stage.name) if resume else []
        for event in worker.ask({"stage": stage.name, "done": done}, started + seconds):
            if "refused" in event:
                raise Refused(event["refused"])
            if not begun:
                results.forget(stage.name)
                begun = True
            results.about |= event.get("about", {})
            if "line" in event:
                results.add(stage.name, event["line"])
                say(f"  {time.monotonic() - started:6.1f} s  {words(event['line'])}")
            if "task" in event:
                results.task(stage.name, event["task"], event["state"])
                if event["state"].startswith(FAILED):
                    failed.append(f"{event['task']}: {event['state'].removeprefix(FAILED + ': ')}")
            kept = bool(event.get("end")) and not event.get("spent")
        state, why = (FAILED, "; ".join(failed)) if failed else (DONE, None)
    except Over:
        state, why = CUT, f"it was over its limit of {seconds:.0f} s"
    except Ended as reason:
        state, why = FAILED, str(reason)
    except Refused:
        raise
    except BaseException:
        results.close(stage.name, CUT, time.monotonic() - started, "the run was stopped")
        raise
    spent = time.monotonic() - started
    results.close(stage.name, state, spent, why)
    say(f"{stage.name}: {state} after {spent:.1f} s" + (f": {why}" if why else ""))
    return kept


def words(line: dict) -> str:
    """A line in one line."""
    if line["ours"] is None:
        return f"{line['name']}, {line['peer_name']}: not run: {line['not_run']}"
    return f"{line['name']}, {line['peer_name']}: {line['ratio']:.3g}" + f" ({line['ours']:.3g} {line['unit']})"
