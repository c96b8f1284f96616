"""Times readings of a MIRAGE that runs: the first evidence under searches, and searches under readings.

python -m bench.read --url http://127.0.0.1:8080
"""

import argparse
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle

import numpy as np

from mirage.client import Client
from mirage_api.readings import ReadEvidence

WORDS = ("brain", "axial T1", "coronal FLAIR", "a lesion on the left", "sagittal section", "no finding")


def _search(client: Client, text: str) -> float:
    started = time.perf_counter()
    client.search(text, k=10)
    return time.perf_counter() - started


def _evidence(client: Client, image: bytes) -> float:
    started = time.perf_counter()
    with closing(client.read(image)) as events:
        for event in events:
            if isinstance(event, ReadEvidence):
                return time.perf_counter() - started
    raise SystemExit("a reading ended without evidence")


def _paced(act: Callable[[], float], every_s: float, ended: threading.Event) -> list[float]:
    """Acts at a steady pace, as callers that know nothing of each other would."""
    with ThreadPoolExecutor(16) as pool:
        running = []
        while not ended.wait(every_s):
            running.append(pool.submit(act))
        return [each.result() for each in running]


def _say(what: str, seconds: list[float]) -> None:
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    load = os.getloadavg()[0]
    print(f"{what}: p50 {p50:.0f} ms, p95 {p95:.0f} ms, over {len(seconds)}; load {load:.1f} on {os.cpu_count()} CPUs")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--readings", type=int, default=40)
    arguments = parser.parse_args()
    with Client(arguments.url, timeout_s=120) as client:
        records = client.records(limit=arguments.readings).records
        images = [client.image(each.id).data for each in records]
        texts = cycle(WORDS)

        def search() -> float:
            return _search(client, next(texts))

        _evidence(client, images[0])

        alone = [search() for _ in range(arguments.readings)]
        _say("searches one after the other", alone)
        ended = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            searches = pool.submit(_paced, search, 0.25, ended)
            evidence = [_evidence(client, image) for image in images]
            ended.set()
            _say("first evidence while four searches a second run", evidence)
            _say("those searches", searches.result())

        ended = threading.Event()

        def keep_reading(some: list[bytes]) -> None:
            for image in cycle(some):
                if ended.is_set():
                    return
                list(client.read(image))

        with ThreadPoolExecutor(2) as pool:
            for part in (images[::2], images[1::2]):
                pool.submit(keep_reading, part)
            _say("searches one after the other while two readings run", [search() for _ in range(arguments.readings)])
            ended.set()


if __name__ == "__main__":
    main()
