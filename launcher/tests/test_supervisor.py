"""Services are started together, started again after a crash, and stopped in order."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mirage_launcher import processes
from mirage_launcher.services import Service
from mirage_launcher.supervisor import EARLY_ENDS, Supervisor
from tests.support.waiting import until_async as until

# Says when it begins and when it is asked to end.
POLITE = """
import os, signal, sys
name, book = sys.argv[1:]
def say(word):
    with open(book, "a") as file: file.write(f"{name} {word}\\n")
def end(*_): say("ends"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
say("begins")
while True: signal.pause()
"""
STUBBORN = POLITE.replace('say("ends"); sys.exit(0)', 'say("refuses")')


def service(root: Path, name: str, code: str) -> Service:
    command = (sys.executable, "-c", code, name, str(root / "book"))
    return Service(name, command, "127.0.0.1:1", root / f"{name}.log", {processes.MARK: str(root)})


def supervise(root: Path, services: Sequence[tuple[str, str]]) -> Supervisor:
    (root / "book").touch()
    return Supervisor(tuple(service(root, name, code) for name, code in services), root, lambda: None)


def book(root: Path) -> list[str]:
    return (root / "book").read_text().splitlines()


async def test_services_are_stopped_in_the_reverse_of_their_order(tmp_path: Path) -> None:
    names = ["encoder", "retriever", "gateway"]
    supervisor = supervise(tmp_path, [(name, POLITE) for name in names])
    supervisor.start()
    await until(lambda: len(book(tmp_path)) == 3)
    await supervisor.stop(hurry=asyncio.Event())
    assert sorted(book(tmp_path)[:3]) == [f"{name} begins" for name in sorted(names)]
    assert book(tmp_path)[3:] == [f"{name} ends" for name in reversed(names)]
    assert not list(processes.marked(tmp_path))


async def test_a_start_goes_on_without_a_service_that_is_optional(tmp_path: Path) -> None:
    (tmp_path / "book").touch()
    fails = replace(service(tmp_path, "llm", "raise SystemExit(3)"), optional=True)
    supervisor = Supervisor((fails, service(tmp_path, "encoder", POLITE)), tmp_path, lambda: None)
    supervisor.start()
    await until(lambda: bool(supervisor.failing()))
    assert supervisor.hopeless() is None
    (remark,) = supervisor.failing()
    assert f"the llm ended {EARLY_ENDS} times (exit code 3)" in remark
    await supervisor.stop(hurry=asyncio.Event())


async def test_a_service_that_is_killed_is_started_again(tmp_path: Path) -> None:
    supervisor = supervise(tmp_path, [("encoder", POLITE), ("retriever", POLITE)])
    supervisor.start()
    await until(lambda: len(book(tmp_path)) == 2)
    before = supervisor.states[0].process
    assert before is not None
    os.kill(before.pid, signal.SIGKILL)
    await until(lambda: len(book(tmp_path)) == 3)
    encoder, retriever = supervisor.states
    assert encoder.restarts == 1
    assert encoder.process not in (None, before)
    assert retriever.restarts == 0
    await supervisor.stop(hurry=asyncio.Event())


async def test_a_service_that_ends_again_and_again_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "encoder.log").write_text("a line of the run before\n")
    supervisor = supervise(tmp_path, [("encoder", "print('no such bundle'); raise SystemExit(3)")])
    supervisor.start()
    assert supervisor.hopeless() is None
    await until(lambda: supervisor.hopeless() is not None)
    reason = supervisor.hopeless()
    assert reason is not None
    assert f"the encoder ended {EARLY_ENDS} times (exit code 3)" in reason
    assert "no such bundle" in reason
    assert "run before" not in reason
    await supervisor.stop(hurry=asyncio.Event())


async def test_a_program_that_is_not_there_is_given_up(tmp_path: Path) -> None:
    ghost = Service("encoder", ("/nowhere/python",), "127.0.0.1:1", tmp_path / "encoder.log", {})
    supervisor = Supervisor((ghost,), tmp_path, lambda: None)
    supervisor.start()
    await until(lambda: supervisor.hopeless() is not None)
    assert supervisor.hopeless() == "the encoder cannot be run"
    await supervisor.stop(hurry=asyncio.Event())


async def test_a_second_request_to_stop_kills_what_refuses(tmp_path: Path) -> None:
    supervisor = supervise(tmp_path, [("encoder", STUBBORN)])
    supervisor.start()
    await until(lambda: len(book(tmp_path)) == 1)
    hurry = asyncio.Event()
    stopping = asyncio.create_task(supervisor.stop(hurry=hurry))
    await until(lambda: "encoder refuses" in book(tmp_path))
    assert not stopping.done()
    hurry.set()
    async with asyncio.timeout(8):
        await stopping
    assert not list(processes.marked(tmp_path))
