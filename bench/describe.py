"""A whole explanation over HTTP: from the question to the first word, to the last, and to both rankings."""

import argparse
import http.client
import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np

from bench.gateway import service, wait_until_ready
from bench.report import Figure, Report
from mirage.client import Client
from mirage.indexing import Indexer
from mirage_atlas.readers import open_reader
from mirage_launcher import ports
from mirage_models.paths import bundles_folder, mini_clip_bundle

WARM_UP = 5
TIMEOUT_S = 120.0
PLANES = ("axial", "coronal", "sagittal")
CONTRASTS = ("T1", "T2", "FLAIR")
PLACES = ("thalami", "pons", "cerebellum", "midbrain", "insula", "hippocampi", "lateral ventricles")


@dataclass(frozen=True)
class Timed:
    """One explanation: milliseconds until its events, its source, and its tokens."""

    retrieval_ms: float
    first_ms: float
    done_ms: float
    source: str | None
    tokens: int


def questions() -> list[str]:
    """63 that belong to the demonstration atlas, in an order that does not favour a plane."""
    found = [
        f"{plane} {contrast} brain MRI through the {place}"
        for place, contrast, plane in product(PLACES, CONTRASTS, PLANES)
    ]
    return [found[(index * 17) % len(found)] for index in range(len(found))]


def ask(port: int, text: str) -> Timed:
    """Asks as a browser does and times what comes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    at: dict[str, float] = {}
    name, done = "", {}
    started = time.perf_counter()
    connection.request("POST", "/v1/describe", json.dumps({"text": text}), {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"no explanation: {response.status}")
    for line in response:
        if line.startswith(b"event: "):
            name = line[7:].strip().decode()
            at.setdefault(name, (time.perf_counter() - started) * 1000)
        elif line.startswith(b"data: ") and name == "done":
            done = json.loads(line[6:])
    connection.close()
    if not done:
        raise RuntimeError(f"no end: the last event was {name}")
    return Timed(at["retrieval"], at.get("sentence", float("nan")), at["done"], done["source"], done["tokens"])


def figures(timed: list[Timed], *, modelled: bool) -> list[Figure]:
    """Medians and 95th percentiles of the descriptions that were written; the bar needs a model."""
    written = [each for each in timed if each.source]
    first, done = (np.array([getattr(each, name) for each in written]) for name in ("first_ms", "done_ms"))
    retrieval = np.array([each.retrieval_ms for each in timed])
    rate = [each.tokens / (each.done_ms - each.first_ms) * 1000 for each in written if each.tokens > 1]

    def bar(value: float) -> float | None:
        return value if modelled else None

    return [
        Figure("answered", len(written), f"of {len(timed)}", note="the others were declined: a weak match"),
        Figure("by the language model", sum(each.source == "model" for each in timed), f"of {len(timed)}"),
        Figure("retrieval, median", float(np.median(retrieval)), "ms", better="lower"),
        Figure("first sentence, median", float(np.median(first)), "ms", bar=bar(300), better="lower"),
        Figure("first sentence, p95", float(np.percentile(first, 95)), "ms", better="lower"),
        Figure(
            "whole answer, median",
            float(np.median(done)),
            "ms",
            better="lower",
            note="both rankings included",
        ),
        Figure("whole answer, p95", float(np.percentile(done, 95)), "ms", bar=bar(1500), better="lower"),
        Figure("tokens, median", float(np.median([each.tokens for each in written])), ""),
        Figure(
            "tokens a second", float(np.median(rate)) if rate else 0.0, "", note="checks and second ranking included"
        ),
    ]


def main() -> None:
    """Runs the benchmark and writes its report."""
    parser = argparse.ArgumentParser(prog="bench.describe", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("reports/describe.json"), help="where the report goes")
    parser.add_argument("--quick", action="store_true", help="few questions")
    parser.add_argument("--bundle", type=Path, default=mini_clip_bundle(), help="the encoder's bundle")
    parser.add_argument(
        "--language", type=Path, default=bundles_folder() / "lm" / "bundle", help="the language model's"
    )
    arguments = parser.parse_args()
    modelled = (arguments.language / "manifest.json").is_file()
    with tempfile.TemporaryDirectory(prefix="mirage-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        encoder, retriever, llm = (f"unix:{folder}/{each}" for each in ("encoder", "retriever", "llm"))
        port = ports.any_free()
        grpc_port = ports.any_free(taken=frozenset({port}))
        settings: dict[str, dict[str, str]] = {
            "encoder": {"host": encoder, "bundle": str(arguments.bundle)},
            "retriever": {"host": retriever, "data": str(folder / "data"), "encoder": encoder},
            "llm": {"host": llm, "bundle": str(arguments.language), "encoder": encoder},
            "gateway": {
                "http_port": str(port),
                "port": str(grpc_port),
                "encoder": encoder,
                "retriever": retriever,
                "llm": llm if modelled else "",
            },
        }
        for part, given in settings.items():
            if part != "llm" or modelled:
                stack.enter_context(service(f"mirage_{part}", folder / f"{part}.log", **given))
        wait_until_ready(port)
        with Client(f"http://127.0.0.1:{port}", timeout_s=120) as client:
            records = Indexer(client).run(open_reader("demo").read()).stored
            wait_for_model(client, needed=modelled)
        asked = list(islice(questions(), WARM_UP + 10)) if arguments.quick else questions()
        timed = [ask(port, text) for text in asked][WARM_UP:]
    model = "mini language model" if modelled else "no language model: sentences of the captions"
    report = Report(
        title="Explanations over HTTP",
        how=f"{records:,} records of the demonstration atlas, mini CLIP, {model}; {len(timed)} questions, none repeated, one "
        "after the other, k = 3, temperature 0, 128 tokens at the most; from sending the question until an event has arrived.",
        figures=figures(timed, modelled=modelled),
    )
    report.save(arguments.json)
    print(report.markdown())


def wait_for_model(client: Client, *, needed: bool) -> None:
    """Returns once the llm serves, if one is wanted; raises TimeoutError after two minutes."""
    give_up = time.monotonic() + 120
    while needed and not any(model.task == "describe" for model in client.models()):
        if time.monotonic() > give_up:
            raise TimeoutError("the language model was not ready within two minutes")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
