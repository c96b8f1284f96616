"""Embeddings in a file: an .npz with `ids`, `vectors`, `fingerprint` and optionally `caption_vectors`.

An uncompressed file, as `save` writes it, is mapped: 81,000 vectors then hardly take memory.
"""

import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from mirage.errors import InputError, PartMissingError
from mirage_api.records import StoredRecord

try:
    import numpy as np
except ModuleNotFoundError as error:  # pragma: no cover -- optional: a plain client does not need it
    raise PartMissingError("numpy", "reading and writing embeddings") from error

_CHECKED_ROWS = 4096
_HEADER = 30
ROWS_MAX = 10_000_000


class Embeddings:
    """A checked file of embeddings: finite float32 rows of one length with unique ids. A context manager.

    Raises InputError if the file is something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        try:
            with zipfile.ZipFile(path) as archive:
                names = set(archive.namelist())
                if missing := {"ids.npy", "vectors.npy", "fingerprint.npy"} - names:
                    raise InputError(f"{path} lacks {', '.join(sorted(name[:-4] for name in missing))}")
                ids, fingerprint = self._read(archive, "ids.npy"), self._read(archive, "fingerprint.npy")
                self.vectors = self._rows(archive, "vectors.npy")
                self.caption_vectors = (
                    self._rows(archive, "caption_vectors.npy") if "caption_vectors.npy" in names else None
                )
        except (OSError, zipfile.BadZipFile, ValueError, EOFError) as error:
            self.close()
            raise InputError(f"{path} is no .npz with ids, vectors and fingerprint") from error
        except BaseException:
            self.close()
            raise
        if ids.ndim != 1 or ids.dtype.kind != "U" or fingerprint.shape != () or fingerprint.dtype.kind != "U":
            raise InputError(f"{path}: ids must be a list of texts and fingerprint one text")
        self.fingerprint = str(fingerprint)
        self._row_of = {str(id_): row for row, id_ in enumerate(ids)}
        self._check(len(ids))

    def _check(self, count: int) -> None:
        if len(self._row_of) != count:
            raise InputError(f"{self._path}: an id is there twice")
        for name, rows in (("vectors", self.vectors), ("caption_vectors", self.caption_vectors)):
            if rows is None:
                continue
            if rows.ndim != 2 or rows.shape != (count, self.vectors.shape[1]) or rows.dtype != np.dtype("<f4"):
                raise InputError(f"{self._path}: {name} must be float32, a row for each id, all of one length")
            for start in range(0, count, _CHECKED_ROWS):
                part = rows[start : start + _CHECKED_ROWS]
                if not np.isfinite(part).all() or not np.abs(part).max(axis=1).all():
                    raise InputError(f"{self._path}: {name} holds a row that is not finite or all zero")

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self.vectors.shape[1])

    def of(self, record_id: str) -> tuple[bytes, bytes | None] | None:
        """Image vector and caption vector of a record, little-endian float32; None for an unknown id."""
        row = self._row_of.get(record_id)
        if row is None:
            return None
        caption = None if self.caption_vectors is None else self.caption_vectors[row].tobytes()
        return self.vectors[row].tobytes(), caption

    def close(self) -> None:
        """Lets go of the file."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _read(archive: zipfile.ZipFile, name: str) -> Any:
        if archive.getinfo(name).file_size > ROWS_MAX * 600:
            raise InputError(f"{name[:-4]} is too large")
        with archive.open(name) as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    def _rows(self, archive: zipfile.ZipFile, name: str) -> Any:
        info = archive.getinfo(name)
        if info.compress_type == zipfile.ZIP_STORED:
            with self._path.open("rb") as file:
                file.seek(info.header_offset)
                header = file.read(_HEADER)
                lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
                return _mapped(file, info.header_offset + _HEADER + lengths)
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="mirage-embeddings-")
        path = Path(archive.extract(info, self._temporary.name))
        with path.open("rb") as file:
            return _mapped(file, 0)


def _mapped(file: IO[bytes], start: int) -> Any:
    """The array whose .npy begins at `start`, mapped."""
    file.seek(start)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran or dtype.hasobject:
        raise ValueError("not a plain array")
    return np.memmap(file.name, dtype=dtype, mode="r", shape=shape, offset=file.tell())


def save(path: Path, records: Iterable[StoredRecord], *, fingerprint: str) -> int:
    """Writes the vectors of records as they come, holding only their ids.

    Returns their number. The file appears complete or not at all.

    Raises InputError without records, and for a record without vectors.
    """
    with tempfile.TemporaryDirectory(prefix=".mirage-export-", dir=path.parent) as folder:
        parts = {name: Path(folder) / name for name in ("vectors", "caption_vectors")}
        ids, length = _spill(parts, records)
        if not ids:
            raise InputError("there is no record to export")
        whole = Path(folder) / path.name
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in (("ids", np.array(ids, dtype=np.str_)), ("fingerprint", np.array(fingerprint))):
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            for name, part in parts.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(
                        member, {"descr": "<f4", "fortran_order": False, "shape": (len(ids), length // 4)}
                    )
                    for block in _blocks(part):
                        member.write(block)
        whole.replace(path)
    return len(ids)


def _spill(parts: dict[str, Path], records: Iterable[StoredRecord]) -> tuple[list[str], int]:
    ids: list[str] = []
    length = 0
    with parts["vectors"].open("wb") as images, parts["caption_vectors"].open("wb") as captions:
        for stored in records:
            image, caption = stored.vectors()
            if image is None or caption is None:
                raise InputError(f"the server gave no vectors for {stored.id}")
            length = length or len(image)
            if not len(image) == len(caption) == length:
                raise InputError(f"the vectors of {stored.id} have another length")
            ids.append(stored.id)
            images.write(image)
            captions.write(caption)
    return ids, length


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(2**20):
            yield block
