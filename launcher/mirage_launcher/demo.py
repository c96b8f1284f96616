"""Builds the demonstration atlas at the first start, in a process of its own that ends with it."""

import asyncio
import json
import os
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mirage_atlas.demo.sources import part_names
from mirage_core.files import write_atomically
from mirage_launcher import logs
from mirage_launcher.folders import Folders
from mirage_launcher.services import Plan, python_module
from mirage_launcher.state import IndexState


class DemoIndex:
    """The demonstration atlas of one data directory. What an interrupted run has stored is not sent again."""

    def __init__(self, folders: Folders, plan: Plan, name: str) -> None:
        self._folders = folders
        self._plan = plan
        self._name = name
        self._mark = folders.demo_mark_server if plan.vectors else folders.demo_mark

    def is_due(self) -> bool:
        """False if none is wanted, once all of its parts are here, or if the directory held another atlas."""
        due = self._name != "none" and is_due(read_mark(self._mark), self._name)
        if not due:
            # Progress of an earlier start is out of date.
            self._folders.demo_progress.unlink(missing_ok=True)
        return due

    async def build(self, report: Callable[[IndexState], None]) -> IndexState:
        """Runs to the end and returns the last state, with `problem` set if it failed.

        The next start continues from there.
        """
        log = logs.open_log(self._folders.log("demo"))
        try:
            process = await asyncio.create_subprocess_exec(
                *python_module("mirage_launcher.demo_job"),
                str(self._mark),
                self._name,
                str(self._folders.demo_archives),
                "--progress",
                str(self._folders.demo_progress),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
                cwd=self._folders.root,
                env=self._environment(),
                start_new_session=True,
            )
        finally:
            os.close(log)
        state = IndexState()
        try:
            assert process.stdout is not None  # noqa: S101 -- PIPE was asked for
            async for line in process.stdout:
                state = _parse(line, state)
                report(state)
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code != 0 and not state.problem:
            return IndexState(state.done, state.total, problem=f"ended with exit code {code}")
        return state

    def _environment(self) -> dict[str, str]:
        services = {**os.environ, **self._plan.services[0].environment}
        key = {"MIRAGE_API_KEY": self._plan.key} if self._plan.key else {}
        port = self._plan.url.rpartition(":")[2]
        return {**services, **key, "MIRAGE_URL": f"http://127.0.0.1:{port}"}


def is_due(mark: Mapping[str, Any], name: str) -> bool:
    """True unless a mark says that all parts of the demonstration atlas of this name are stored, or that it is not wanted.

    The mark of an earlier version is without parts: what it says to be finished is left as it is.
    """
    if not mark.get("finished", False):
        return True
    return "done" in mark and not set(part_names(name)) <= set(parts_done(mark))


def parts_done(mark: Mapping[str, Any]) -> list[str]:
    """Returns the names of the parts that a mark says are stored."""
    done = mark.get("done")
    return [str(each) for each in done] if isinstance(done, list) else []


def read_mark(path: Path) -> Mapping[str, Any]:
    """Returns the recorded progress of the demonstration atlas; empty before the first start."""
    try:
        mark = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return mark if isinstance(mark, dict) else {}


def write_mark(path: Path, mark: Mapping[str, Any]) -> None:
    """Replaces the note."""
    write_atomically(path, json.dumps(mark).encode(), sync_data=False, sync_name=False)


def _parse(line: bytes, before: IndexState) -> IndexState:
    try:
        return IndexState(**json.loads(line))
    except (ValueError, TypeError):
        return before
