"""Runs every benchmark, each in a process of its own, and writes reports/bench.md and bench.json."""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from bench.report import load

MODULES = ("encode", "decode", "generate", "images", "search", "hybrid", "gateway", "describe")


def main() -> int:
    """Returns 0 when every benchmark ran to its end, whatever it measured; a miss is in the report, not in the status."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help=f"any of {', '.join(MODULES)}; all where none is named"
    )
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of the reports")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: shows that it runs, measures nothing of worth"
    )
    args = parser.parse_args()
    if unknown := set(args.modules) - set(MODULES):
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}")
    reports, failed = [], []
    for module in args.modules or MODULES:
        path = args.out / f"{module}.json"
        command = [sys.executable, "-m", f"bench.{module}", "--json", str(path), *(["--quick"] if args.quick else [])]
        print(f"== bench.{module}", flush=True)
        if subprocess.run(command, check=False).returncode == 0:
            reports.append(load(path))
        else:
            failed.append(module)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bench.json").write_text(json.dumps([asdict(report) for report in reports], indent=1) + "\n")
    text = "# Benchmarks\n\n" + "\n".join(report.markdown() for report in reports)
    (args.out / "bench.md").write_text(text)
    print(text)
    if failed:
        print(f"did not run to the end: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
