"""An atlas the size of ROCO through the command line: 81,000 records with their embeddings, searched all the while.

`python -m bench.import_records --work DIR [--records N] --json FILE` makes a dataset (random clusters of 768 numbers;
JPEGs, each file another), starts a MIRAGE on embedded engines, runs `mirage embeddings import`, and asks for neighbours
of random vectors through the gateway meanwhile, ten times a second.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image, ImageFilter

from bench.report import Figure, Report, run
from mirage.client import Client
from mirage.errors import ClientError
from mirage.queries import Query, Term
from mirage_launcher import operations, ports

DIMENSION = 768
CLUSTERS = 400
FINGERPRINT = "be" * 32
PICTURES = 200
_PLANES = ("axial", "coronal", "sagittal")


def make_dataset(folder: Path, count: int) -> None:
    """Writes `captions.jsonl`, images and `embeddings.npz`, unless they exist."""
    done = folder / "done"
    if done.exists() and done.read_text() == str(count):
        return
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    pictures = [_picture(rng) for _ in range(PICTURES)]
    with (folder / "captions.jsonl").open("w") as lines:
        for number in range(count):
            name = f"images/{number // 1000:03}-{number:06}.jpg"
            # Bytes after the end of a JPEG change the file and not the picture.
            (folder / name).write_bytes(pictures[number % PICTURES] + number.to_bytes(8, "little"))
            plane = _PLANES[number % 3]
            row = {
                "id": f"R{number:06}",
                "file": name,
                "caption": f"Record {number} of the benchmark, {plane} CT of the chest with finding {number % 97}.",
                "labels": {"plane": plane, "modality": "ct"},
                "licence": "CC0-1.0",
                "source": "computed",
            }
            lines.write(json.dumps(row) + "\n")
    centres = rng.standard_normal((CLUSTERS, DIMENSION), dtype=np.float32)
    vectors = centres[rng.integers(0, CLUSTERS, count)] + 0.6 * rng.standard_normal(
        (count, DIMENSION), dtype=np.float32
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    captions = vectors + 0.03 * rng.standard_normal((count, DIMENSION), dtype=np.float32)
    captions /= np.linalg.norm(captions, axis=1, keepdims=True)
    np.savez(
        folder / "embeddings.npz",
        ids=np.array([f"R{number:06}" for number in range(count)]),
        vectors=vectors,
        caption_vectors=captions,
        fingerprint=np.array(FINGERPRINT),
    )
    done.write_text(str(count))


def _picture(rng: np.random.Generator) -> bytes:
    noise = Image.fromarray(rng.integers(0, 255, (56, 56), dtype=np.uint8)).resize((448, 448), Image.Resampling.BICUBIC)
    grain = Image.fromarray(rng.integers(0, 60, (448, 448), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(1))
    buffer = io.BytesIO()
    Image.blend(noise, grain, 0.4).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


class Probe:
    """Searches by random vectors, and watches the memory of the processes below one."""

    def __init__(self, url: str, launcher: psutil.Process) -> None:
        self.times_ms: list[float] = []
        self.failed: list[str] = []
        self.peaks: dict[str, float] = {}
        self._url = url
        self._launcher = launcher
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._search, self._watch)]

    def start(self) -> None:
        """Begins."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _search(self) -> None:
        rng = np.random.default_rng(11)
        with Client(self._url, timeout_s=10) as client:
            while not self._stop.wait(0.1):
                vector = rng.standard_normal(DIMENSION, dtype=np.float32)
                started = time.perf_counter()
                try:
                    client.search(Query((Term(vector=vector.tolist()),), k=10))
                    self.times_ms.append((time.perf_counter() - started) * 1000)
                except ClientError as error:
                    self.failed.append(error.code)

    def _watch(self) -> None:
        while not self._stop.wait(2.0):
            found: dict[str, float] = {}
            for process in self._launcher.children(recursive=True):
                try:
                    name = next((p for p in process.cmdline() if p.startswith("mirage_")), process.name())
                    found[name] = found.get(name, 0.0) + process.memory_full_info().pss / 2**20
                except psutil.Error:
                    continue
            found["all"] = sum(found.values())
            for name, size in found.items():
                self.peaks[name] = max(self.peaks.get(name, 0.0), size)


def measure(work: Path, records: int) -> Report:
    """Make, start, import, report."""
    make_dataset(work / "dataset", records)
    port = ports.any_free()
    grpc_port = ports.any_free(taken=frozenset({port}))
    data, url = work / "data", f"http://127.0.0.1:{port}"
    start = [sys.executable, "-m", "mirage.cli", "up", "--detach", "--no-demo", "--data", str(data)]
    subprocess.run([*start, "--port", str(port), "--grpc-port", str(grpc_port)], check=True)
    try:
        with Client(url) as client:
            client.create_collection("roco", dimension=DIMENSION, fingerprint=FINGERPRINT)
            client.activate_collection("roco")
            launcher = psutil.Process(json.loads(_status(data))["processes"][0]["pid"])
            probe = Probe(url, launcher)
            probe.start()
            started = time.monotonic()
            command = [
                sys.executable,
                "-m",
                "mirage.cli",
                "embeddings",
                "import",
                "--json",
                "--url",
                url,
                "--into",
                "roco",
            ]
            done = subprocess.run(
                [*command, str(work / "dataset" / "embeddings.npz"), str(work / "dataset")],
                check=True,
                stdout=subprocess.PIPE,
            )
            seconds = time.monotonic() - started
            probe.stop()
            tally = json.loads(done.stdout)
            stored = client.collection().records
    finally:
        operations.down(data)
    times = np.array(probe.times_ms)
    return Report(
        "Import",
        f"{records:,} records with given embeddings of {DIMENSION} numbers and JPEGs of 448 x 448 pixels through the command "
        f"line and the gateway, embedded engine; {len(times):,} searches meanwhile, {len(probe.failed)} failed.",
        (
            Figure(
                "import", seconds, "s", bar=600 * records / 81_000, better="lower", note=f"{tally['created']:,} created"
            ),
            Figure("records in the collection", stored, "", bar=records),
            Figure("rate", records / seconds, "records/s"),
            Figure(
                "failed searches",
                len(probe.failed),
                "",
                bar=0,
                better="lower",
                note=", ".join(sorted(set(probe.failed))),
            ),
            Figure("search meanwhile, p50", float(np.percentile(times, 50)), "ms", better="lower"),
            Figure("search meanwhile, p99", float(np.percentile(times, 99)), "ms", better="lower"),
            Figure("search meanwhile, worst", float(times.max()), "ms", better="lower"),
            *(
                Figure(f"peak memory, {name}", size, "MiB PSS", better="lower")
                for name, size in sorted(probe.peaks.items())
            ),
        ),
    )


def _status(data: Path) -> bytes:
    command = [sys.executable, "-m", "mirage.cli", "status", "--data", str(data), "--json"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    run("bench.import_records", __doc__, measure, work=Path, records=81_000)
