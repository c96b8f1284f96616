"""What older versions stored: cleaned once, whenever the retriever is killed meanwhile, and never served before."""

import asyncio
import io
import json
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from qdrant_client.models import Distance, VectorParams

from mirage_core.channels import invoke, invoke_stream, open_channel
from mirage_core.cleaning_progress import Progress
from mirage_core.decoders import DecoderPool
from mirage_core.errors import MirageError
from mirage_core.files import MARK, take
from mirage_core.image_cleaning import FORMAT, FORMAT_FILE
from mirage_core.image_store import FOLDER, IMAGES, ImageStore
from mirage_core.vectors import vector_to_proto
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from mirage_protos.v1 import image_pb2, query_pb2, record_pb2
from mirage_retriever.encoder_client import EncoderClient
from mirage_retriever.engines.base import Collection, CollectionStore, Nearest, Saying, Space
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.engines.edge.shard_files import FilterRow, ShardFiles, WordsRow
from mirage_retriever.engines.edge.store import EdgeCollectionStore
from mirage_retriever.engines.identity import point_id
from mirage_retriever.engines.qdrant import QdrantEngine
from mirage_retriever.engines.qdrant_nodes import connect
from mirage_retriever.engines.qdrant_store import QdrantCollectionStore
from mirage_retriever.facets import NAMES
from mirage_retriever.images import Images
from mirage_retriever.migration import Migration
from mirage_retriever.records import Record
from mirage_retriever.terms import EncoderModel
from mirage_retriever.words.documents import words_of
from tests.support.old_data import PATIENT, Old, dicom, jpeg, keep_files, keep_records, png, transparent
from tests.support.scripted_qdrant import Node
from tests.support.waiting import until_async as until
from tests.support.waiting import wait_until_serving

from .conftest import Stub, start

NAME = "PLANTED^NAME^7f3a"
pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


def edge_store(data: Path) -> EdgeCollectionStore:
    policy = ShardPolicy(restart_wait_s=10, queue_limit=64, build_quiet_s=1, build_share=0.1, build_points=50_000)
    data.mkdir(exist_ok=True)
    return EdgeCollectionStore(
        data, default="atlas", make=lambda path: EdgeEngine(path, facets=NAMES, policy=policy, shards=1)
    )


@pytest.fixture
async def model(encoder: str) -> AsyncIterator[EncoderModel]:
    client = EncoderClient(encoder, timeout_s=30)
    yield await client.model()
    await client.close()


def direction(number: int, dimension: int) -> np.ndarray:
    row: np.ndarray = np.eye(dimension, dtype=np.float32)[number]
    return row


def records(dimension: int) -> list[Old]:
    """A record of each kind, with vectors that no encoder would give."""
    files = [
        ("png", png(1, NAME), "image/png"),
        ("jpeg", jpeg(2, NAME), "image/jpeg"),
        ("dicom", dicom(3, NAME), "application/dicom"),
        ("transparent", transparent(4), "image/png"),
        ("burned-in", dicom(5, NAME, burned_in="YES"), "application/dicom"),
        ("damaged", jpeg(6, NAME)[:700], "image/jpeg"),
        ("twin", png(1, NAME), "image/png"),
    ]
    return [Old(id_, data, direction(n, dimension), kind) for n, (id_, data, kind) in enumerate(files)]


async def old_atlas(data: Path, model: EncoderModel) -> list[Old]:
    """Two collections, of which one is of another model; a file that no record shows, and halves of files."""
    olds = records(model.dimension)
    foreign = [Old("foreign", dicom(8, NAME), direction(0, 4), "application/dicom")]
    store = edge_store(data)
    collections = {
        Collection("atlas", model.dimension, model.fingerprint): olds,
        Collection("next", 4, "f" * 64): [*foreign, Old("both", olds[0].data, direction(1, 4))],
    }
    await keep_records(store, collections)
    await store.close()
    orphan = png(9, NAME)
    keep_files(data, [*(old.data for old in olds), foreign[0].data, orphan])
    (data / "images" / "00").mkdir(exist_ok=True)
    (data / "images" / "00" / ".half.new").write_bytes(orphan[:300])
    for path in below(data):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return olds


def below(data: Path) -> list[Path]:
    """All files and folders of a data folder."""
    return [data, *data.rglob("*")]


def planted(data: Path) -> list[Path]:
    """Files that hold the name."""
    names = NAME.encode(), PATIENT.encode()
    return [path for path in below(data) if path.is_file() and any(name in path.read_bytes() for name in names)]


async def record(stub: Stub, id_: str) -> record_pb2.Record:
    return (await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=id_), timeout_s=10)).record


async def image(
    stub: Stub, id_: str, variant: image_pb2.ImageVariant.ValueType = image_pb2.IMAGE_VARIANT_DISPLAY
) -> bytes:
    request = retriever_pb2.GetImageRequest(id=id_, variant=variant)
    return b"".join([reply.part.chunk async for reply in invoke_stream(stub.GetImage, request, timeout_s=30)])


async def cosine(stub: Stub, id_: str, term: query_pb2.Term) -> float:
    query = query_pb2.Query(terms=[term], k=20)
    reply = (await invoke(stub.Search, retriever_pb2.SearchRequest(query=query), timeout_s=30)).reply
    [found] = [result.cosine for result in reply.results if result.record.id == id_]
    return found


async def check_migrated(stub: Stub, data: Path, olds: list[Old]) -> None:
    """All that holds of an atlas that was migrated."""
    for old in olds[:4]:
        kept = await record(stub, old.id)
        assert kept.original_sha256 == old.sha256 != kept.image_sha256
        assert kept.caption == f"Caption of {old.id}."
        assert dict(kept.original_labels) == {"Plane": "TRA"}
        assert kept.image_type == ("image/jpeg" if old.media_type == "image/jpeg" else "image/png")
        shown = Image.open(io.BytesIO(await image(stub, old.id)))
        assert shown.size == (kept.width, kept.height) == (96, 96)
        thumbnail = await image(stub, old.id, image_pb2.IMAGE_VARIANT_THUMBNAIL)
        assert Image.open(io.BytesIO(thumbnail)).format == "WEBP"
    for id_ in ("burned-in", "damaged"):
        with pytest.raises(MirageError) as caught:
            await record(stub, id_)
        assert caught.value.code == "RECORD_NOT_FOUND"
    assert (await record(stub, "twin")).image_sha256 == (await record(stub, "png")).image_sha256
    # What a model sees is the same as before: its vector stays. Else it is computed again.
    for old in (olds[0], olds[1], olds[6]):
        assert await cosine(
            stub, old.id, query_pb2.Term(vector=vector_to_proto(np.array(old.vector, np.float32)))
        ) == pytest.approx(1, abs=1e-5)
    for old in (olds[2], olds[3]):
        assert await cosine(stub, old.id, query_pb2.Term(image=await image(stub, old.id))) == pytest.approx(1, abs=1e-3)
    keys = [record_pb2.RecordKey(id="new", image_sha256=olds[2].sha256)]
    found = await invoke(stub.LookupRecords, retriever_pb2.LookupRecordsRequest(keys=keys), timeout_s=10)
    assert list(found.records[0].same_image_ids) == ["dicom"]
    activate = retriever_pb2.ActivateCollectionRequest(name="next")
    await invoke(stub.ActivateCollection, activate, timeout_s=20)
    other = query_pb2.Term(vector=vector_to_proto(np.array(direction(0, 4), np.float32)))
    assert await cosine(stub, "foreign", other) == pytest.approx(1, abs=1e-5)
    assert Image.open(io.BytesIO(await image(stub, "foreign"))).size == (96, 96)
    assert (await record(stub, "both")).original_sha256 == olds[0].sha256
    assert planted(data) == []
    assert not (data / "images").exists()
    assert not (data / "thumbnails").exists()
    # png and twin, jpeg, dicom, transparent, foreign
    assert len(list(ImageStore(data).digests(IMAGES))) == 5
    assert [path.name for path in below(data) if path.name.startswith("cleaned-")] == []
    assert [path for path in below(data) if path.lstat().st_mode & 0o077] == []
    assert json.loads((data / FORMAT_FILE).read_text()) == {"format": FORMAT}


async def test_an_older_atlas_is_cleaned_before_anything_is_served(
    encoder: str, model: EncoderModel, tmp_path: Path, services: Callable[..., str]
) -> None:
    data = tmp_path / "data"
    olds = await old_atlas(data, model)
    assert len(planted(data)) >= 6
    address = services("mirage_retriever", tmp_path, encoder=encoder, data=data)
    async with open_channel(address, idempotent={}) as channel:
        await check_migrated(RetrieverServiceStub(channel), data, olds)
    finished = Progress.read(data)
    assert finished is not None
    # Of nine files two cannot be kept, and a third one is shown by no record.
    assert (finished.step, finished.cleaned, finished.removed, finished.records_removed) == ("finished", 6, 2, 2)
    log = (tmp_path / "mirage_retriever.log").read_text()
    assert NAME not in log
    assert '"id": "damaged"' in log


def left(data: Path) -> int:
    """Files that are not clean yet."""
    try:
        return sum(len(names) for _, _, names in os.walk(data / "images"))
    except FileNotFoundError:
        return 0


class Killed:
    """A retriever that is started and killed again and again on one folder."""

    def __init__(self, folder: Path, encoder: str) -> None:
        self._folder = folder
        self._encoder = encoder
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> None:
        self.address, self.process = start(
            "mirage_retriever", self._folder, encoder=self._encoder, data=self._folder / "data", decoders=1
        )

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def is_serving(self) -> bool:
        with grpc.insecure_channel(self.address) as channel:
            try:
                reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.RpcError:
                return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def killed(encoder: str, tmp_path: Path) -> Iterator[Killed]:
    made = Killed(tmp_path, encoder)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait(30)


async def test_a_retriever_that_is_killed_goes_on_where_it_was(
    model: EncoderModel, tmp_path: Path, killed: Killed
) -> None:
    data = tmp_path / "data"
    olds = await old_atlas(data, model)
    # More files, so that kills fall into the midst of them.
    keep_files(data, [png(number, NAME) for number in range(100, 260)])
    chance = random.Random(20261128)
    total = left(data)
    moments: set[int] = set()
    # Amid the files, and twice when only the records are left; each time a random moment later.
    for share in (0.85, 0.6, 0.3, 0.0, 0.0):
        killed.start()
        while left(data) > share * total:
            # Never both: something that is not clean, and a retriever that serves.
            assert not killed.is_serving() or not left(data)
            await asyncio.sleep(0.01)
        await asyncio.sleep(chance.random() * 0.3)
        moments.add(left(data))
        killed.kill()
    killed.start()
    assert killed.process is not None
    await asyncio.to_thread(wait_until_serving, killed.address, killed.process)
    async with open_channel(killed.address, idempotent={}) as channel:
        await check_migrated(RetrieverServiceStub(channel), data, olds)
    assert len([moment for moment in moments if 0 < moment < total]) >= 2


async def test_before_it_is_clean_every_call_is_told_to_come_again(
    model: EncoderModel, tmp_path: Path, killed: Killed
) -> None:
    data = tmp_path / "data"
    await old_atlas(data, model)
    # Another one has the folder: this one waits.
    (data / "clean").mkdir()
    with take(data / "clean"):
        killed.start()
        async with open_channel(killed.address, idempotent={}) as channel:
            stub = RetrieverServiceStub(channel)
            calls = (
                lambda: record(stub, "png"),
                lambda: image(stub, "png"),
                lambda: image(stub, "png", image_pb2.IMAGE_VARIANT_THUMBNAIL),
                lambda: invoke(stub.ListRecords, retriever_pb2.ListRecordsRequest(collection="next"), timeout_s=10),
                lambda: invoke(
                    stub.CreateCollection, retriever_pb2.CreateCollectionRequest(name="third"), timeout_s=10
                ),
            )
            for call in calls:
                while True:
                    with pytest.raises(MirageError) as caught:
                        await call()
                    if caught.value.code != "DEPENDENCY_UNAVAILABLE":
                        break
                    await asyncio.sleep(0.05)  # it does not listen yet
                assert caught.value.code == "MODEL_NOT_READY"
        assert not killed.is_serving()
        assert len(planted(data)) >= 6
    assert killed.process is not None
    await asyncio.to_thread(wait_until_serving, killed.address, killed.process)
    assert planted(data) == []


def store_on(server: Node, stack: AsyncExitStack) -> QdrantCollectionStore:
    nodes = connect([server.url], [server.port], collection="atlas")
    stack.push_async_callback(nodes.close)
    return QdrantCollectionStore(
        nodes, default="atlas", make=lambda made, name: QdrantEngine(made, name=name, facets=NAMES)
    )


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


@pytest.fixture
async def server(stack: AsyncExitStack) -> Node:
    node = await Node().start()
    stack.push_async_callback(node.stop)
    return node


@pytest.fixture
async def migrate(encoder: str) -> AsyncIterator[Callable[[Path, CollectionStore], Migration]]:
    """Makes migrations in this process, with real decoders and the real encoder."""
    pool = DecoderPool(2, 256, 30, 256, "migration-test")
    client = EncoderClient(encoder, timeout_s=30)
    yield lambda data, store: Migration(data, store, Images(ImageStore(data), pool, places=3), client)
    await pool.close()
    await client.close()


@pytest.mark.parametrize("kind", ["edge", "server"])
async def test_records_of_an_older_version_are_found_by_their_words(
    kind: str,
    tmp_path: Path,
    stack: AsyncExitStack,
    server: Node,
    migrate: Callable[[Path, CollectionStore], Migration],
) -> None:
    store: CollectionStore = edge_store(tmp_path) if kind == "edge" else store_on(server, stack)
    collection = Collection("atlas", 8, "f" * 64)
    await keep_records(store, {collection: records(8)[:3]})
    assert await store.without_words() == ["atlas"]
    await migrate(tmp_path, store).run()
    assert await store.without_words() == []
    engine = store.engine("atlas")
    assert await engine.open() == collection
    query = words_of(Record(id="query", caption="jpeg"))
    [hits] = await engine.search([Saying(query.ids, query.weights, 5)])
    assert [hit.id for hit in hits] == ["jpeg"]
    assert (await engine.vocabulary())["caption"] == 3
    before = (await engine.fetch(["png"], vectors=True))["png"].image
    assert before is not None
    assert before.tolist() == direction(0, 8).tolist()
    await engine.close()
    await store.close()


async def test_a_server_that_cannot_add_words_is_searched_by_vectors_as_before(
    tmp_path: Path, stack: AsyncExitStack, server: Node, migrate: Callable[[Path, CollectionStore], Migration]
) -> None:
    server.cluster.can_add_vectors = False
    store = store_on(server, stack)
    collection = replace(Collection("atlas", 8, "f" * 64), schema=1)
    server.cluster.local.create_collection(
        "atlas",
        vectors_config=dict.fromkeys(("image", "caption"), VectorParams(size=8, distance=Distance.COSINE)),
        metadata={"mirage": asdict(collection)},
    )
    await keep_records(store, {collection: records(8)[:3]})
    await migrate(tmp_path, store).run()
    assert await store.without_words() == ["atlas"]
    engine = store.engine("atlas")
    assert await engine.open() == collection
    [hits] = await engine.search([Nearest(direction(1, 8), Space.IMAGE, 1)])
    assert [hit.id for hit in hits] == ["jpeg"]
    await engine.close()
    await store.close()


async def test_records_on_a_server_are_migrated_by_one_of_several_retrievers(
    encoder: str, model: EncoderModel, tmp_path: Path, stack: AsyncExitStack, server: Node
) -> None:
    olds = records(model.dimension)
    store = store_on(server, stack)
    await keep_records(store, {Collection("atlas", model.dimension, model.fingerprint): olds})
    data = tmp_path / "data"
    keep_files(data, [old.data for old in olds])
    logs = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        settings = {"engine": "qdrant", "qdrant_url": server.url, "qdrant_grpc_port": server.port}
        address, process = start("mirage_retriever", folder, encoder=encoder, data=data, **settings)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        logs.append((address, process, folder / "mirage_retriever.log"))
    for address, process, _ in logs:
        await asyncio.to_thread(wait_until_serving, address, process)
        async with open_channel(address, idempotent={}) as channel:
            for old in olds:
                if old.id not in ("burned-in", "damaged"):
                    assert Image.open(io.BytesIO(await image(RetrieverServiceStub(channel), old.id))).size == (96, 96)
    assert sum(log.read_text().count('"event": "stored images cleaned"') for _, _, log in logs) == 1
    engine = store.engine("atlas")
    await engine.open()
    there = await engine.fetch([old.id for old in olds], vectors=True)
    assert set(there) == {"png", "jpeg", "dicom", "transparent", "twin"}
    for old in olds:
        if old.id in there:
            fields = json.loads(there[old.id].record)
            assert fields["original_sha256"] == old.sha256
            assert fields["original_labels"] == {"Plane": "TRA"}
            assert ImageStore(data).has(fields["image_sha256"], fields["pixels_sha256"])
            same = sorted(each.id for each in olds if each.data == old.data)
            assert await engine.showing([old.sha256], 10) == {old.sha256: same}
    assert there["png"].image is not None
    np.testing.assert_allclose(there["png"].image, olds[0].vector, atol=1e-6)
    assert planted(data) == []


async def test_while_the_server_is_away_the_cleaning_waits_for_it(
    model: EncoderModel,
    tmp_path: Path,
    stack: AsyncExitStack,
    server: Node,
    migrate: Callable[[Path, CollectionStore], Migration],
) -> None:
    olds = records(model.dimension)[:3]
    store = store_on(server, stack)
    await keep_records(store, {Collection("atlas", model.dimension, model.fingerprint): olds})
    keep_files(tmp_path, [old.data for old in olds])
    await server.stop()
    running = asyncio.create_task(migrate(tmp_path, store).run())
    await until(lambda: not (tmp_path / "images").exists())
    assert not running.done()
    await server.start()
    await running
    assert Progress.read(tmp_path) == Progress("finished", 3, 3, cleaned=3)


async def test_a_server_without_records_does_not_cost_the_images(
    tmp_path: Path,
    model: EncoderModel,
    stack: AsyncExitStack,
    server: Node,
    migrate: Callable[[Path, CollectionStore], Migration],
) -> None:
    olds = records(model.dimension)[:3]
    keep_files(tmp_path, [old.data for old in olds])
    wrong = await Node().start()
    stack.push_async_callback(wrong.stop)
    await migrate(tmp_path, store_on(wrong, stack)).run()
    assert planted(tmp_path) == []
    assert len(list(ImageStore(tmp_path).digests(IMAGES))) == 3
    # The right server, later.
    store = store_on(server, stack)
    await keep_records(store, {Collection("atlas", model.dimension, model.fingerprint): olds})
    await migrate(tmp_path, store).run()
    engine = store.engine("atlas")
    await engine.open()
    for stored in (await engine.fetch([old.id for old in olds])).values():
        assert ImageStore(tmp_path).has(json.loads(stored.record)["image_sha256"])
    assert [path.name for path in below(tmp_path) if path.name.startswith("cleaned-")] == []


async def test_an_empty_folder_is_marked_and_a_later_one_is_refused(
    tmp_path: Path, stack: AsyncExitStack, server: Node, migrate: Callable[[Path, CollectionStore], Migration]
) -> None:
    store = store_on(server, stack)
    await migrate(tmp_path, store).run()
    assert json.loads((tmp_path / FORMAT_FILE).read_text()) == {"format": FORMAT}
    assert Progress.read(tmp_path) is None
    (tmp_path / FORMAT_FILE).write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(MirageError) as caught:
        await migrate(tmp_path, store).run()
    assert caught.value.code == "RECORD_INVALID"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": true}', "[" * 100_000, None])
async def test_a_damaged_format_is_put_aside(
    content: str | None,
    tmp_path: Path,
    stack: AsyncExitStack,
    server: Node,
    migrate: Callable[[Path, CollectionStore], Migration],
) -> None:
    file = tmp_path / FORMAT_FILE
    if content is None:
        file.mkdir()
    else:
        file.write_text(content)
    await migrate(tmp_path, store_on(server, stack)).run()
    assert json.loads(file.read_text()) == {"format": FORMAT}
    [kept] = [path for path in below(tmp_path) if path.name.startswith(f"{FORMAT_FILE}{MARK}")]
    assert kept.is_dir() if content is None else kept.read_text() == content


async def test_images_of_a_damaged_collection_are_kept(
    tmp_path: Path, model: EncoderModel, migrate: Callable[[Path, CollectionStore], Migration]
) -> None:
    await old_atlas(tmp_path, model)
    (tmp_path / "edge" / "collection.json").write_bytes(b"")
    store = edge_store(tmp_path)
    await migrate(tmp_path, store).run()
    await store.close()
    assert planted(tmp_path / FOLDER) == []
    # What it shows is clean and there, and so is what says which file became which.
    assert len(list(ImageStore(tmp_path).digests(IMAGES))) >= 5
    assert [path for path in below(tmp_path) if path.name.startswith("cleaned-")]


def test_a_shard_of_an_older_version_gets_the_indexes_that_it_lacks(tmp_path: Path) -> None:
    import qdrant_edge as qe

    path = tmp_path / "shard"
    path.mkdir()
    params = qe.EdgeVectorParams(size=4, distance=qe.Distance.Cosine)
    old = qe.EdgeShard.create(str(path), qe.EdgeConfig(vectors={"image": params, "caption": params}, wal_enabled=True))
    old.update(qe.UpdateOperation.create_field_index("image_sha256", qe.KeywordIndexParams(enable_hnsw=False)))
    payload = {"id": "old", "record": "{}", "facets": {}, "image_sha256": "a" * 64}
    vector = direction(0, 4)
    vectors = {"image": vector.tolist(), "caption": vector.tolist()}
    old.update(qe.UpdateOperation.upsert_points([qe.Point(id=point_id("old"), vector=vectors, payload=payload)]))
    old.close()
    no_filter: FilterRow = ({}, [], None, [], [], {}, None)
    word, weight = np.array([7], np.uint32).tobytes(), np.ones(1, np.float32).tobytes()
    for _ in range(2):
        shard = ShardFiles.load(path)
        assert shard.showing(["a" * 64], 5) == [("a" * 64, "old")]
        assert shard.rows(["old"])[0][-2:] == ({"image_sha256": "a" * 64}, (b"", b"", []))
        assert shard.search([("say", word, weight, 5, no_filter)]) == [[]]
        shard.close()
    shard = ShardFiles.load(path)
    vector_bytes = vector.tobytes()
    words: WordsRow = (word, weight, ["lungs"])
    shard.upsert([("old", vector_bytes, vector_bytes, "{}", {}, {"image_sha256": "a" * 64}, words)])
    assert [hit[0] for hit in shard.search([("say", word, weight, 5, no_filter)])[0]] == ["old"]
    shard.close()
