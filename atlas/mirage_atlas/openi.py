"""Open-i's Indiana University chest X-rays: a report in XML and its PNGs, or the same as two tables.

Files as in the collection (Demner-Fushman et al. 2016): `ecgen-radiology/1.xml` with the sections of the report, MeSH terms and
the names of its images, and `CXR1_1_IM-0001-3001.png`. The form of two tables has `*reports.csv` (uid, MeSH, Problems,
indication, findings, impression) and `*projections.csv` (uid, filename, projection). All images of a report are one case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mirage_atlas.case_texts import case_texts, choose_caption
from mirage_atlas.facets import facet_values, map_labels
from mirage_atlas.folder import SUFFIXES, Folder, Ids, RowError, is_hidden, line_text
from mirage_atlas.licences import licence_name
from mirage_atlas.records import AtlasRecord, BadRow, DatasetError, Labels, LeftOut
from mirage_atlas.tables import Table

SOURCE = "Indiana University chest X-rays, Open-i (National Library of Medicine)"
ATTRIBUTION = "Indiana University; Demner-Fushman et al. 2016"
# Facts that the collection's reports state.
LICENCE = "CC-BY-NC-ND-4.0"
_XML_BYTES = 2**20
_DEPTH = 3
_IMAGES_MAX = 200
_LOOKED_AT = 20
_PLANES = {"frontal": "frontal", "lateral": "lateral", "pa": "frontal", "ap": "frontal"}


@dataclass(frozen=True)
class Report:
    """A report as either form gives it; `images` are names of files and projections, in order."""

    id: str
    indication: str
    findings: str
    impression: str
    mesh: tuple[str, ...]
    problems: tuple[str, ...]
    licence: str
    images: tuple[tuple[str, str], ...]


def openi_reports(path: Path) -> list[Path]:
    """Returns the XML reports in a folder and three levels below it, those of Open-i's form."""
    files = [
        file for folder in _folders(path, _DEPTH) for file in sorted(folder.glob("*.xml")) if not is_hidden(file.name)
    ]
    return files if any(_is_report(file) for file in files[:_LOOKED_AT]) else []


def openi_tables(path: Path, *, follow_links: bool = False) -> tuple[Path, Path] | None:
    """Returns the tables of reports and of projections in a folder; None unless there is one of each."""
    folder = Folder(path, follow_links=follow_links)
    reports, projections = (folder.files(f"*{name}.csv") for name in ("reports", "projections"))
    return (reports[0], projections[0]) if len(reports) == len(projections) == 1 else None


def _folders(path: Path, depth: int) -> Iterator[Path]:
    yield path
    if depth:
        for child in sorted(child for child in path.iterdir() if child.is_dir() and not child.is_symlink()):
            yield from _folders(child, depth - 1)


def _is_report(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return b"<eCitation" in stream.read(2_000)
    except OSError:
        return False


class OpeniReader:
    """Reads either form of the collection, report after report."""

    def __init__(self, path: Path, *, follow_links: bool = False) -> None:
        """Raises DatasetError if there are neither reports in XML nor the two tables."""
        self._folder = Folder(path, follow_links=follow_links)
        self._tables = openi_tables(path, follow_links=follow_links)
        self._files = [] if self._tables else openi_reports(self._folder.path)
        self._places: dict[str, Path] | None = None
        self.left_out = LeftOut()
        if self._tables is None and not self._files:
            raise DatasetError("there are neither XML reports of Open-i nor tables of reports and projections")

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Yields a record for each image of each report."""
        ids = Ids(self._folder.name)
        for name, line, report in self._reports():
            if isinstance(report, str):
                yield BadRow(line, report, name)
                continue
            if not report.images:
                yield BadRow(line, "the report has no image", name)
            for position, (image, projection) in enumerate(report.images, start=1):
                try:
                    yield self._record(report, image, projection, position, ids, name, line)
                except RowError as error:
                    yield BadRow(line, str(error), name)

    def _reports(self) -> Iterator[tuple[str, int, Report | str]]:
        """Yields file, line and report, or the reason why it is missing."""
        if self._tables is not None:
            yield from _from_tables(self._folder, *self._tables)
            return
        for file in self._files:
            try:
                self._folder.checked(file, most=_XML_BYTES)
                yield self._folder.relative(file), 0, _from_xml(file.read_bytes())
            except (RowError, OSError) as error:
                yield (
                    self._folder.relative(file),
                    0,
                    str(error) if isinstance(error, RowError) else "the file cannot be read",
                )

    def _record(
        self, report: Report, image: str, projection: str, position: int, ids: Ids, file: str, line: int
    ) -> AtlasRecord:
        problems = [each for each in report.problems if each.lower() not in ("normal", "no indexing")]
        named = [each.partition("/")[0] for each in report.mesh if each.lower() not in ("normal", "no indexing")]
        is_normal = not named and any(each.lower() == "normal" for each in (*report.mesh, *report.problems))
        texts = case_texts(
            {
                "title": "; ".join(dict.fromkeys(named or problems)) or ("Normal chest X-ray" if is_normal else ""),
                "findings": report.findings,
                "history": report.indication,
                "impression": report.impression,
                "keywords": [*report.mesh, *problems],
                "case_id": report.id,
                "position": position,
            }.get
        )
        caption, replaced = choose_caption(report.impression or report.findings, texts, image)
        if replaced:
            self.left_out.add_placeholder(f"{file} {report.id}")
        path = self._image(image)
        identity, own_id = ids.take(path.stem, f"{file} line {line}" if line else file)
        labels: Labels = {"modality": ("x-ray",), "body_part": ("chest",)}
        if plane := _PLANES.get(projection.lower()):
            labels["plane"] = (plane,)
        if problems:
            labels["finding"] = facet_values(problems)
        labels["licence"] = facet_values([report.licence])
        _, original = map_labels({"projection": projection} if projection else {}, own_id, self.left_out)
        return AtlasRecord(
            id=identity,
            caption=caption,
            labels=labels,
            original_labels=original,
            licence=report.licence,
            source=SOURCE,
            attribution=ATTRIBUTION,
            sha256="",
            image_path=path,
            **texts.items(),
            file=file,
            line=line,
        )

    def _image(self, name: str) -> Path:
        """Returns an image by the name of its file, with any suffix, in any folder of the dataset."""
        if "/" in name or "\\" in name or not name.strip():
            raise RowError(
                "the file lies outside the folder" if name.strip() else "the file name is missing or not plain"
            )
        if self._places is None:
            self._places = {
                file.stem.lower(): file
                for folder in _folders(self._folder.path, _DEPTH)
                for file in sorted(folder.iterdir())
                if file.suffix.lower() in SUFFIXES and not is_hidden(file.name)
            }
        stem = Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name
        # The tables' names have a suffix more: 1_IM-0001-4001.dcm.png.
        for each in (stem, f"{stem}.dcm", stem.removesuffix(".dcm")):
            if found := self._places.get(each.lower()):
                return self._folder.checked(found)
        raise RowError("the image is missing")


def _from_xml(data: bytes) -> Report:
    """Raises RowError for what is not a report. Documents with a DTD are refused: entities in it can grow without end."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise RowError("the report has a document type definition")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 -- bounded in size, and without a DTD there are no entities
    except (ElementTree.ParseError, ValueError, RecursionError):
        raise RowError("the report is not XML") from None
    if root.tag != "eCitation":
        raise RowError("the file is not a report of Open-i")
    uid = root.find("uId")
    identity = line_text(uid.get("id") if uid is not None else "")
    if not identity:
        raise RowError("the report has no id")
    sections = {
        (each.get("Label") or "").upper(): "".join(each.itertext()).strip() for each in root.iter("AbstractText")
    }
    images = root.findall("parentImage")[:_IMAGES_MAX]
    return Report(
        id=identity,
        indication=sections.get("INDICATION", ""),
        findings=sections.get("FINDINGS", ""),
        impression=sections.get("IMPRESSION", ""),
        mesh=_texts(root.findall("MeSH/major")),
        problems=_texts(root.findall("MeSH/automatic")),
        licence=_licence(line_text(root.findtext("licenseURL") or ""), line_text(root.findtext("ccLicense") or "")),
        images=tuple((each.get("id") or "", "") for each in images),
    )


def images_of(data: bytes) -> tuple[str, ...]:
    """Returns the names of a report's images, without suffix; none for what is not a report."""
    try:
        return tuple(name for name, _ in _from_xml(data).images)
    except RowError:
        return ()


def _texts(elements: Sequence[ElementTree.Element]) -> tuple[str, ...]:
    return tuple(text for each in elements[:_IMAGES_MAX] if (text := line_text("".join(each.itertext()))))


def _licence(address: str, code: str) -> str:
    """`http://creativecommons.org/licenses/by-nc-nd/4.0/` becomes CC-BY-NC-ND-4.0."""
    parts = address.rstrip("/").split("/")
    if "creativecommons.org" in address and len(parts) >= 2:
        return licence_name(f"cc {parts[-2]} {parts[-1]}")
    spaced = (
        code.lower()
        .removeprefix("cc")
        .replace("by", " by")
        .replace("nc", " nc")
        .replace("nd", " nd")
        .replace("sa", " sa")
    )
    return licence_name(f"cc {spaced.strip()}") if code else LICENCE


def _from_tables(folder: Folder, reports: Path, projections: Path) -> Iterator[tuple[str, int, Report | str]]:
    images: dict[str, list[tuple[str, str]]] = {}
    table = _table(projections, folder, "uid", "filename")
    for _, row in table.rows():
        if not isinstance(row, str):
            listed = images.setdefault(row["uid"], [])
            if len(listed) < _IMAGES_MAX:
                listed.append((row["filename"], row.get("projection", "")))
    name = folder.relative(reports)
    for line, row in _table(reports, folder, "uid").rows():
        if isinstance(row, str):
            yield name, line, row
            continue
        yield (
            name,
            line,
            Report(
                id=f"CXR{row['uid']}",
                indication=row.get("indication", ""),
                findings=row.get("findings", ""),
                impression=row.get("impression", ""),
                mesh=_listed(row.get("mesh", "")),
                problems=_listed(row.get("problems", "")),
                licence=LICENCE,
                images=tuple(images.get(row["uid"], ())),
            ),
        )


def _table(file: Path, folder: Folder, *columns: str) -> Table:
    table = Table(file)
    for each in columns:
        if each not in table.header:
            raise DatasetError(f"{folder.relative(file)}: the table has no column {each}")
    return table


def _listed(text: str) -> tuple[str, ...]:
    return tuple(word for part in text.split(";") if (word := line_text(part)))
