"""Datasets are fetched from a server with ranges: whole or in part, resumed after a break, with digests compared."""

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from mirage_atlas.fetching.datasets import Addresses, Wanted, fetch
from mirage_atlas.fetching.remote import FetchError, Host, RemoteFile, download
from mirage_atlas.readers import detect_reader, open_reader
from mirage_atlas.records import AtlasRecord, BadRow

REPORT = """<eCitation><uId id="CXR{n}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="IMPRESSION">Finding {n}.</AbstractText></Abstract></Article></MedlineCitation>
<parentImage id="CXR{n}_1"/></eCitation>"""


@dataclass
class Server:
    """A host of files. It breaks off after `break_after` bytes, once for each of `breaks`; `requests` are what it was asked."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    break_after: int = 0
    breaks: int = 0
    resumes: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def addresses(self) -> Addresses:
        return Addresses(
            openi_reports=self.url("/reports.tgz"),
            openi_images=self.url("/images.tgz"),
            rocov2_record=self.url("/record"),
            hosts=frozenset({"127.0.0.1"}),
            insecure=True,
        )


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("range", "")
            state.requests.append((self.path, asked))
            if self.path in state.redirects:
                self.send_response(302)
                self.send_header("location", state.redirects[self.path])
                self.end_headers()
                return
            data = state.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            start, end = 0, len(data)
            if asked and state.resumes:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, end = int(first), int(last) + 1 if last else len(data)
                self.send_response(206 if start < len(data) else 416)
                self.send_header("content-range", f"bytes {start}-{end - 1}/{len(data)}")
            else:
                self.send_response(200)
            body = data[start:end]
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if state.breaks and len(body) > state.break_after:
                state.breaks -= 1
                body = body[: state.break_after]
                self.close_connection = True
            self.wfile.write(body)
            state.sent += len(body)

        def log_message(self, *_: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = serving.server_address[1]
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield state
    serving.shutdown()
    serving.server_close()
    thread.join()


def silent(_: str, __: int, ___: int | None) -> None:
    pass


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), shade).save(buffer, "PNG")
    return buffer.getvalue()


def tgz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def offer_openi(server: Server, count: int = 5) -> None:
    server.files["/reports.tgz"] = tgz({f"ecgen-radiology/{n}.xml": REPORT.format(n=n).encode() for n in range(count)})
    server.files["/images.tgz"] = tgz({f"CXR{n}_1.png": png(10 + n) for n in range(count)})


def offer_rocov2(server: Server) -> None:
    def zipped(*names: str) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, png(20))
        return buffer.getvalue()

    files = {
        "train_captions.csv": b"ID,Caption\nROCOv2_1,A lung\nROCOv2_2,A liver\nROCOv2_3,A knee\n",
        "train_concepts.csv": b"ID,CUIs\nROCOv2_1,C0040405\n",
        "license_information.csv": b"ID,PMCID,License\nROCOv2_1,PMC1,CC BY 4.0\n"
        b"ROCOv2_2,PMC2,CC BY-NC 4.0\nROCOv2_3,PMC3,CC BY 2.0\n",
        "train_images.zip": zipped(
            "train/ROCOv2_1.jpg", "train/ROCOv2_2.jpg", "train/ROCOv2_3.jpg", "../train/.hidden.jpg"
        ),
    }
    listed = []
    for name, data in files.items():
        server.files[f"/files/{name}"] = data
        digest = f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}"
        listed.append({"key": name, "links": {"self": server.url(f"/files/{name}")}, "checksum": digest})
    server.files["/record"] = json.dumps({"files": listed}).encode()


def records(folder: Path) -> list[AtlasRecord]:
    name = detect_reader(folder)
    assert name is not None
    found = list(open_reader(name, folder).read())
    assert not [each for each in found if isinstance(each, BadRow)]
    return [each for each in found if isinstance(each, AtlasRecord)]


def test_open_i_is_fetched_whole_and_read(server: Server, tmp_path: Path) -> None:
    offer_openi(server)
    assert fetch("openi", tmp_path / "openi", Wanted(), silent, server.addresses()) == 5
    assert [each.caption for each in records(tmp_path / "openi")] == [f"Finding {n}." for n in range(5)]
    before = len(server.requests)
    assert fetch("openi", tmp_path / "openi", Wanted(), silent, server.addresses()) == 5
    assert len(server.requests) == before


def test_the_first_images_come_with_their_reports_alone(server: Server, tmp_path: Path) -> None:
    offer_openi(server, 40)
    assert fetch("openi", tmp_path, Wanted(limit=3), silent, server.addresses()) == 3
    assert len(records(tmp_path)) == 3


def test_rocov2_is_fetched_with_its_licences(server: Server, tmp_path: Path) -> None:
    offer_rocov2(server)
    assert fetch("rocov2", tmp_path, Wanted(), silent, server.addresses()) == 3
    assert [each.licence for each in records(tmp_path)] == ["CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-2.0"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(licences=("CC-BY",)), {"ROCOv2_1.jpg", "ROCOv2_3.jpg"}),
        (Wanted(licences=("cc by 4.0",)), {"ROCOv2_1.jpg"}),
        (Wanted(limit=2), {"ROCOv2_1.jpg", "ROCOv2_2.jpg"}),
        (Wanted(limit=1, licences=("CC-BY-NC", "CC-BY-2.0")), {"ROCOv2_2.jpg"}),
    ],
)
def test_a_part_of_rocov2_is_read_out_of_the_archive(
    server: Server, tmp_path: Path, wanted: Wanted, expected: set[str]
) -> None:
    offer_rocov2(server)
    assert fetch("rocov2", tmp_path, wanted, silent, server.addresses()) == len(expected)
    assert {each.name for each in (tmp_path / "train").iterdir()} == expected
    assert not (tmp_path / "train_images.zip").exists()


def test_a_broken_connection_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4_000
    server.files["/a"] = data
    server.break_after, server.breaks = 400_000, 2
    host = Host(frozenset({"127.0.0.1"}), insecure=True)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert download(host, RemoteFile("a", server.url("/a"), digest), tmp_path, silent).read_bytes() == data
    assert server.requests[0] == ("/a", "")
    assert all(asked.startswith("bytes=") for _, asked in server.requests[1:])
    assert server.sent <= len(data) + 100
    host.close()


def test_what_an_earlier_run_left_is_kept(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = b"0123456789"
    (tmp_path / "a.part").write_bytes(b"01234")
    host = Host(frozenset({"127.0.0.1"}), insecure=True)
    assert download(host, RemoteFile("a", server.url("/a")), tmp_path, silent).read_bytes() == b"0123456789"
    assert server.sent == 5
    host.close()


def test_a_host_that_does_not_resume_is_asked_from_the_start(server: Server, tmp_path: Path) -> None:
    server.files["/a"], server.resumes = b"0123456789", False
    (tmp_path / "a.part").write_bytes(b"xxxxx")
    host = Host(frozenset({"127.0.0.1"}), insecure=True)
    assert download(host, RemoteFile("a", server.url("/a")), tmp_path, silent).read_bytes() == b"0123456789"
    host.close()


def test_a_file_of_another_digest_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    offer_rocov2(server)
    server.files["/files/train_captions.csv"] += b"x"
    with pytest.raises(FetchError, match="differs from the md5"):
        fetch("rocov2", tmp_path, Wanted(), silent, server.addresses())
    assert not list(tmp_path.glob("train_captions*"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"/record": b"not json"}, "another form"),
        ({"/record": b'{"files": [{}]}'}, "another form"),
        ({"/record": b"x" * 6_000_000}, "too long"),
        ({"/files/train_images.zip": b"no zip"}, "not a ZIP"),
    ],
)
def test_what_a_host_sends_instead_is_an_error(
    server: Server, tmp_path: Path, change: dict[str, bytes], reason: str
) -> None:
    offer_rocov2(server)
    server.files |= change
    with pytest.raises(FetchError, match=reason):
        fetch("rocov2", tmp_path, Wanted(limit=1), silent, server.addresses())


def test_no_other_host_is_asked(server: Server, tmp_path: Path) -> None:
    offer_openi(server)
    server.redirects["/reports.tgz"] = "https://elsewhere.invalid/reports.tgz"
    with pytest.raises(FetchError, match=r"elsewhere\.invalid/reports\.tgz is not a host of this dataset"):
        fetch("openi", tmp_path, Wanted(), silent, server.addresses())
    with pytest.raises(FetchError, match="not a host"):
        fetch("openi", tmp_path, Wanted(), silent, Addresses(openi_reports=server.url("/reports.tgz")))


@pytest.mark.parametrize("missing", ["/reports.tgz", "/images.tgz"])
def test_a_missing_file_is_named(server: Server, tmp_path: Path, missing: str) -> None:
    offer_openi(server)
    del server.files[missing]
    with pytest.raises(FetchError, match=f"{missing} answered 404"):
        fetch("openi", tmp_path, Wanted(), silent, server.addresses())


def test_members_outside_the_folder_stay_inside_or_are_left(server: Server, tmp_path: Path) -> None:
    offer_openi(server)
    server.files["/images.tgz"] = tgz({"../../evil.png": png(1), "/abs.png": png(2), ".hidden.png": png(3)})
    inside = tmp_path / "a" / "openi"
    fetch("openi", inside, Wanted(), silent, server.addresses())
    assert {each.name for each in (inside / "images").iterdir()} == {"evil.png", "abs.png"}
    assert {each.name for each in tmp_path.rglob("*.png")} == {"evil.png", "abs.png"}


def test_a_damaged_archive_is_an_error(server: Server, tmp_path: Path) -> None:
    offer_openi(server)
    server.files["/images.tgz"] = server.files["/images.tgz"][:200]
    with pytest.raises(FetchError, match="cannot be read"):
        fetch("openi", tmp_path, Wanted(), silent, server.addresses())


def test_a_licence_that_the_dataset_does_not_have_is_said(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="CC-BY-NC-ND"):
        fetch("openi", tmp_path, Wanted(licences=("CC0",)), silent)


def test_the_command_refuses_another_name() -> None:
    from mirage_atlas.cli.fetch import command

    result = CliRunner().invoke(command, ["elsewhere"])
    assert result.exit_code == 2
    assert "elsewhere" in result.output
