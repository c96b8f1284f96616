"""Make the tiny language model that the service's tests run on: `python -m mirage_models.llm.tiny_bundle --out
DIR`.

Random weights in the files of a Dolly checkpoint, built as any other: a megabyte, a context of 512 tokens, no sense.
Needs the build environment.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from mirage_models.tasks import BuildRequest
from mirage_models.workspace import open_workspace

SEED = 3
LIKE = "dolly-v2-3b"
_SIZE = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 2, "num_hidden_layers": 2}


def make(out: Path) -> None:
    """Build the bundle into `out`, which must not be there."""
    from mirage_models.llm import random_checkpoint
    from mirage_models.llm.task import LlmTask

    tiny = replace(random_checkpoint.LIKENESSES[LIKE], small=_SIZE)
    random_checkpoint.LIKENESSES["tiny"] = tiny
    with tempfile.TemporaryDirectory() as scratch:
        source = random_checkpoint.write_random_checkpoint(
            "tiny", Path(scratch) / "checkpoint", size="small", seed=SEED
        )
        request = BuildRequest(
            source=source,
            name="tiny-lm",
            origin="random weights",
            licence="Apache-2.0",
            variants=("int4",),
            calibration=None,
            calibration_items=8,
            # With random weights all next tokens are about as likely, so quantisation changes their order.
            allow_parity_miss=True,
            threads=1,
            extras={},
            options={},
        )
        with open_workspace(out, identity={"seed": str(SEED)}) as workspace:
            workspace.seal(LlmTask().build(request, workspace), out, replace=False)


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    make(parser.parse_args().out)


if __name__ == "__main__":
    main()
