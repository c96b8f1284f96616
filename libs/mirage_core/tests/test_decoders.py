import asyncio
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client import REGISTRY

from mirage_core.decoders import DecoderPool
from mirage_core.decoding_cost import decoding_bytes
from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import ImageInput
from tests.support import decoder_tasks as tasks
from tests.support import image_bombs
from tests.support.paths import ROOT

MakePool = Callable[..., DecoderPool]


@pytest.fixture
async def make_pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakePool]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    pools: list[DecoderPool] = []

    def make(**options: Any) -> DecoderPool:
        settings: dict[str, Any] = {"workers": 1, "memory_mb": 256, "timeout_s": 60, "budget_mb": 512, "name": "test"}
        pools.append(DecoderPool(**{**settings, "preload": ["tests.support.decoder_tasks"], **options}))
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close()


async def refusal(running: Any) -> MirageError:
    with pytest.raises(MirageError) as caught:
        await running
    return caught.value


def png(width: int, height: int) -> bytes:
    buffer = BytesIO()
    Image.new("L", (width, height), 7).save(buffer, "PNG")
    return buffer.getvalue()


async def test_values_of_every_kind_come_back_as_they_were(make_pool: MakePool) -> None:
    spec = ImageInput(size=224, mean=(0, 0, 0), std=(1, 1, 1), resize_mode="squash", interpolation="bicubic")
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    got = (await make_pool().run(tasks.everything, array, b"abc" * 100_000, spec)).value
    assert np.array_equal(got.array, array * 2)
    assert got.array.dtype == np.float32
    assert got.data == b"cba" * 100_000
    assert got.parts == (tasks.Part("é", (1, 2)), tasks.Part("", (224, 4)))
    assert (got.nothing, got.colour, got.kind, got.by_name, got.flag) == (
        None,
        tasks.Colour.GREY,
        "b",
        {"x": 0.5},
        True,
    )


async def test_a_child_is_kept_from_call_to_call(make_pool: MakePool) -> None:
    pool = make_pool()
    await pool.warm_up()
    numbers = {(await pool.run(tasks.process_id)).value for _ in range(5)}
    assert len(numbers) == 1
    assert numbers != {os.getpid()}


async def test_an_error_of_the_catalogue_arrives_with_its_metadata(make_pool: MakePool) -> None:
    error = await refusal(make_pool().run(tasks.refuse, 70_000_000))
    assert (error.code, error.metadata) == (Code.IMAGE_TOO_MANY_PIXELS, {"max": "1", "given": "70000000"})


async def test_no_text_of_another_exception_leaves_the_child(
    make_pool: MakePool, capfd: pytest.CaptureFixture[str]
) -> None:
    error = await refusal(make_pool().run(tasks.fail, "Doe^Jane"))
    assert error.code is Code.IMAGE_UNREADABLE
    printed = "".join(capfd.readouterr())
    assert "decoder failed" in printed
    assert "KeyError at decoder_tasks.py" in printed
    assert "Jane" not in printed + str(error)


@pytest.mark.parametrize(
    ("function", "arguments", "code"),
    [
        (tasks.hang, (), Code.IMAGE_TOO_COSTLY),
        (tasks.spin, (), Code.IMAGE_TOO_COSTLY),
        (tasks.allocate, (2**30,), Code.IMAGE_TOO_COSTLY),
        (tasks.end_by, (signal.SIGKILL,), Code.IMAGE_TOO_COSTLY),
        (tasks.end_by, (signal.SIGXCPU,), Code.IMAGE_TOO_COSTLY),
        (tasks.end_by, (signal.SIGSEGV,), Code.IMAGE_UNREADABLE),
        (tasks.exit_quietly, (), Code.IMAGE_UNREADABLE),
        (tasks.answers_much, (3 * 2**20,), Code.IMAGE_TOO_COSTLY),
    ],
)
async def test_a_call_that_takes_its_child_down_costs_nobody_else_anything(
    make_pool: MakePool, function: Callable[..., Any], arguments: tuple[Any, ...], code: Code
) -> None:
    pool = make_pool(workers=2, timeout_s=2, reply_mb=2)
    bad = asyncio.create_task(pool.run(function, *arguments))
    others = [(await pool.run(tasks.number, value)).value for value in range(20)]
    error = await refusal(bad)
    after = [(await pool.run(tasks.number, value)).value for value in range(20)]
    assert others == after == list(range(20))
    assert (error.code, error.retry_after_s) == (code, None)


async def test_a_child_that_died_between_two_calls_is_not_noticed(make_pool: MakePool) -> None:
    pool = make_pool()
    first = (await pool.run(tasks.process_id)).value
    os.kill(first, signal.SIGKILL)
    # It stays a zombie until the pool asks for its end; its connection is closed as soon as the signal has worked.
    await asyncio.to_thread(_wait_until_dead, first)
    assert (await pool.run(tasks.process_id)).value != first


def _wait_until_dead(pid: int) -> None:
    while _status(pid)[0] != "Z":
        os.sched_yield()


def _status(pid: int) -> list[str]:
    """State and so on, as /proc has them."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


async def test_a_lost_fork_server_is_started_again(make_pool: MakePool) -> None:
    pool = make_pool()
    server = (await pool.run(tasks.parent_id)).value
    os.kill(server, signal.SIGKILL)
    await asyncio.to_thread(_wait_until_dead, server)
    # The child went with it, sooner or later.
    answers = [await asyncio.gather(pool.run(tasks.process_id), return_exceptions=True) for _ in range(2)]
    assert not isinstance(answers[-1][0], BaseException)


async def test_a_full_queue_refuses_at_once_and_says_when_to_try_again(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(queue_limit=1)
    fifo = _fifo(tmp_path)
    running = asyncio.create_task(pool.run(tasks.wait_for, fifo))
    waiting = asyncio.create_task(pool.run(tasks.number, 5))
    await _until(lambda: pool.pending == 2)
    error = await refusal(pool.run(tasks.number, 6))
    await asyncio.to_thread(_open_for_writing, fifo)
    await running
    assert error.code is Code.QUEUE_FULL
    assert error.retry_after_s is not None
    assert (await waiting).value == 5


async def test_a_cancelled_call_gives_up_its_place(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(queue_limit=1)
    fifo = _fifo(tmp_path)
    running = asyncio.create_task(pool.run(tasks.wait_for, fifo))
    cancelled = asyncio.create_task(pool.run(tasks.number, 5))
    await _until(lambda: pool.pending == 2)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    waiting = asyncio.create_task(pool.run(tasks.number, 6))
    await _until(lambda: pool.pending == 2)
    await asyncio.to_thread(_open_for_writing, fifo)
    await running
    assert cancelled.cancelled()
    assert (await waiting).value == 6


async def test_a_running_call_that_is_cancelled_ends_before_its_time(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(timeout_s=10_000)
    fifo = _fifo(tmp_path)
    running = asyncio.create_task(pool.run(tasks.announce_and_hang, fifo))
    await asyncio.to_thread(_open_for_reading, fifo)
    running.cancel()
    assert (await pool.run(tasks.number, 5)).value == 5


async def test_small_calls_run_next_to_a_large_one_and_two_large_ones_in_turn(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(workers=3, memory_mb=200, budget_mb=300)
    fifo = _fifo(tmp_path)
    large = asyncio.create_task(pool.run_within(200 * 2**20, tasks.wait_for, fifo))
    await _until(lambda: pool.pending == 1)
    second = asyncio.create_task(pool.run_within(200 * 2**20, tasks.process_id))
    await _until(lambda: pool.pending == 2)
    small = await pool.run_within(80 * 2**20, tasks.number, 5)
    assert not second.done()
    assert REGISTRY.get_sample_value("mirage_decoder_reserved_bytes", {"queue": "test"}) == 200 * 2**20
    await asyncio.to_thread(_open_for_writing, fifo)
    assert small.value == 5
    assert (await large).value != 0
    assert (await second).value != 0


async def test_children_get_no_secrets_no_files_and_may_write_none(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("MIRAGE_API_KEYS", "MIRAGE_SERVICE_KEY", "HTTPS_PROXY", "SOME_TOKEN"):
        monkeypatch.setenv(name, "planted-secret")
    pool = make_pool()
    with (tmp_path / "open").open("w") as stream:
        stream.flush()
        environment = (await pool.run(tasks.environment)).value
        files = (await pool.run(tasks.open_files)).value
    assert "planted-secret" not in str(environment)
    assert not [name for name in files if not name.startswith(("socket:", "/dev/null"))]
    assert len([name for name in files if name.startswith("socket:")]) == 1
    assert (await pool.run(tasks.core_limit)).value == 0
    assert (await pool.run(tasks.write_file, str(tmp_path / "new"))).value == "OSError"


class _Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.abort, ()


@pytest.mark.parametrize(
    "answer",
    [
        pickle.dumps(_Planted()).decode("latin-1"),
        "\xff\xff\xff\xff",
        "\x02\0\0\0{}",
        "\x1b\0\0\0" + '{"sizes": [], "body": "abc"}'[:27],
        '\x24\0\0\0{"sizes": [999999999999], "body": {}}'[:40],
    ],
)
async def test_whatever_a_child_sends_is_data(make_pool: MakePool, answer: str) -> None:
    pool = make_pool()
    error = await refusal(pool.run(tasks.answer_with, answer))
    assert error.code is Code.IMAGE_UNREADABLE
    assert (await pool.run(tasks.number, 1)).value == 1


async def test_a_result_of_another_type_than_the_annotated_is_refused(make_pool: MakePool) -> None:
    error = await refusal(make_pool().run(tasks.of_another_type))
    assert error.code is Code.IMAGE_UNREADABLE


async def test_an_image_is_decoded_in_a_child(make_pool: MakePool) -> None:
    pool = make_pool(preload=["mirage_core.dicom"])
    assert (await pool.run(tasks.size_of, png(40, 30))).value == (40, 30)


def test_nothing_is_left_of_a_service_that_is_killed(tmp_path: Path) -> None:
    program = ROOT / "tests" / "support" / "pool_process.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    command = [sys.executable, str(program), _fifo(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        numbers = [int(number) for number in process.stdout.readline().split()]
        process.kill()
    assert len(set(numbers)) == 3
    for number in numbers:
        while _is_alive(number):
            os.sched_yield()


def _is_alive(pid: int) -> bool:
    try:
        return _status(pid)[0] != "Z"
    except OSError:
        return False


async def test_no_file_takes_the_pool_down(make_pool: MakePool) -> None:
    pool = make_pool(timeout_s=2)
    refusals: dict[str, Code] = {}
    for name, make in image_bombs.BOMBS.items():
        try:
            await pool.run(tasks.size_of, make())
        except MirageError as error:
            refusals[name] = error.code
        assert (await pool.run(tasks.size_of, png(40, 30))).value == (40, 30)
    assert {"jpeg_repeated_scans", "dicom_deflated", "dicom_jpeg_2000", "dicom_jpeg_larger"} <= refusals.keys()
    assert all(code.startswith("IMAGE_") for code in refusals.values())


@pytest.mark.parametrize(("form", "mode"), [("PNG", "L"), ("PNG", "RGB"), ("JPEG", "RGB"), ("WEBP", "RGB")])
def test_the_memory_for_a_picture_is_estimated_by_its_size(form: str, mode: str) -> None:
    needs = []
    for side in (100, 3100):
        buffer = BytesIO()
        Image.new(mode, (side, side)).save(buffer, form)
        needs.append(decoding_bytes(buffer.getvalue()))
    small, large = needs
    assert small is not None
    assert large is not None
    # Pillow has four bytes for a pixel in colour; it and what is made of it must fit.
    assert large - small >= 8 * (3100**2 - 100**2)


def test_the_memory_for_a_dicom_file_is_estimated_unless_its_size_is_hidden() -> None:
    assert decoding_bytes(image_bombs.dicom_frames()) is not None
    assert decoding_bytes(image_bombs.dicom_deflated()) is None


def test_an_estimate_of_a_file_that_is_cut_off_is_no_error() -> None:
    for file in (png(40, 30), image_bombs.webp_lossless(), image_bombs.noise(40), image_bombs.dicom_frames()):
        estimates = [decoding_bytes(file[:size]) for size in range(len(file))]
        assert estimates[:16] == [None] * 16


async def test_a_call_that_outgrows_its_estimate_gets_all_that_one_may_have(make_pool: MakePool) -> None:
    pool = make_pool(memory_mb=400, budget_mb=400)
    need = decoding_bytes(png(40, 30))
    assert need is not None
    assert need < 300 * 2**20
    assert (await pool.run(tasks.allocate_next_to, png(40, 30), 300 * 2**20)).value == 300 * 2**20
    error = await refusal(pool.run(tasks.allocate_next_to, png(40, 30), 500 * 2**20))
    assert error.code is Code.IMAGE_TOO_COSTLY


async def test_what_runs_or_waits_at_the_end_is_cancelled(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool()
    fifo = _fifo(tmp_path)
    running = asyncio.create_task(pool.run(tasks.announce_and_hang, fifo))
    waiting = asyncio.create_task(pool.run(tasks.number, 1))
    await asyncio.to_thread(_open_for_reading, fifo)
    await pool.close()
    assert [(await refusal(each)).code for each in (running, waiting)] == [Code.CANCELLED, Code.CANCELLED]
    assert (await refusal(pool.run(tasks.number, 1))).code is Code.CANCELLED


def _fifo(folder: Path) -> str:
    path = str(folder / "fifo")
    os.mkfifo(path)
    return path


def _open_for_writing(fifo: str) -> None:
    os.close(os.open(fifo, os.O_WRONLY))


def _open_for_reading(fifo: str) -> None:
    os.close(os.open(fifo, os.O_RDONLY))


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)
