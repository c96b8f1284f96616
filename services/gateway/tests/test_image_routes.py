import httpx
import pytest

from mirage_core.errors import Code, MirageError
from mirage_protos.v1 import image_pb2, record_pb2

from .conftest import Gateway, Peer

NAMED = "?v=abababababababab"
PIXELS = record_pb2.Pixels(
    bits=12, slope=1, intercept=-1024, unit="HU", windows=[record_pb2.PixelWindow(center=40, width=400)]
)

LIVER = record_pb2.Region(id=1, name="liver", group="organs", colour="#d98e5f", box=[1, 2, 30, 40], area=900)


async def test_an_image_comes_whole_with_its_type_and_length(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/images/r1")
    assert response.content == b"abcdef"
    assert (response.headers["content-type"], response.headers["content-length"]) == ("image/png", "6")
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "image_type", "variant", "sent"),
    [
        ("", "image/jpeg", image_pb2.IMAGE_VARIANT_DISPLAY, "image/jpeg"),
        ("", "image/png", image_pb2.IMAGE_VARIANT_DISPLAY, "image/png"),
        ("/thumbnail", "image/png", image_pb2.IMAGE_VARIANT_THUMBNAIL, "image/webp"),
        ("/pixels", "image/png", image_pb2.IMAGE_VARIANT_PIXELS, "image/png"),
        ("/regions", "image/png", image_pb2.IMAGE_VARIANT_REGIONS, "image/png"),
    ],
)
async def test_each_address_gives_its_copy_of_the_image(
    http: httpx.AsyncClient, peer: Peer, path: str, image_type: str, variant: int, sent: str
) -> None:
    peer.script.image_type = image_type
    peer.script.pixels = PIXELS
    peer.script.regions = (LIVER,)
    response = await http.get(f"/v1/images/r1{path}")
    assert (peer.script.asked[-1].variant, response.headers["content-type"]) == (variant, sent)


@pytest.mark.parametrize("path", ["?original=1", "?original=0", "/thumbnail?original=1", "/pixels?original=1"])
async def test_the_file_that_came_in_has_no_address(http: httpx.AsyncClient, peer: Peer, path: str) -> None:
    peer.script.pixels = PIXELS
    response = await http.get(f"/v1/images/r1{path}")
    assert (response.status_code, response.json()["code"]) == (400, "REQUEST_MALFORMED")
    assert response.json()["metadata"]["field"] == "original"


async def test_an_image_of_8_bits_has_no_16_bit_copy(http: httpx.AsyncClient, peer: Peer) -> None:
    response = await http.get("/v1/images/r1/pixels")
    assert (response.status_code, response.json()["code"]) == (404, "PIXELS_NOT_FOUND")
    assert len(peer.script.asked) == 1


async def test_a_record_without_regions_has_no_label_map(http: httpx.AsyncClient, peer: Peer) -> None:
    response = await http.get("/v1/images/r1/regions")
    assert (response.status_code, response.json()["code"]) == (404, "REGIONS_NOT_FOUND")
    assert len(peer.script.asked) == 1


async def test_a_label_map_is_tagged_by_what_it_came_from_and_its_colours(http: httpx.AsyncClient, peer: Peer) -> None:
    tags = set()
    for colour in ("#d98e5f", "#000000"):
        peer.script.regions = (record_pb2.Region(id=1, name="liver", colour=colour),)
        tags.add((await http.get("/v1/images/r1/regions")).headers["etag"])
    assert len(tags) == 2
    assert all("ef" * 32 in tag for tag in tags)


async def test_a_16_bit_copy_is_tagged_by_what_it_came_from(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.script.pixels = PIXELS
    response = await http.get("/v1/images/r1/pixels")
    assert "ab" * 32 in response.headers["etag"]
    assert "cd" * 32 in response.headers["etag"]
    assert "no-cache" in response.headers["cache-control"]
    again = await http.get("/v1/images/r1/pixels", headers={"if-none-match": response.headers["etag"]})
    assert again.status_code == 304


async def test_a_copy_that_is_current_is_not_sent_again(http: httpx.AsyncClient, peer: Peer) -> None:
    etag = (await http.get("/v1/images/r1")).headers["etag"]
    peer.script.asked.clear()
    response = await http.get("/v1/images/r1", headers={"if-none-match": f'"other", W/{etag}'})
    assert (response.status_code, response.content) == (304, b"")
    assert len(peer.script.asked) == 1  # the record alone, not the image


async def test_thumbnail_and_image_have_tags_of_their_own(http: httpx.AsyncClient) -> None:
    tags = {(await http.get(f"/v1/images/r1{path}")).headers["etag"] for path in ("", "/thumbnail")}
    assert len(tags) == 2


async def test_only_an_address_that_names_its_content_is_cached_for_ever(http: httpx.AsyncClient) -> None:
    assert "immutable" in (await http.get(f"/v1/images/r1{NAMED}")).headers["cache-control"]
    for path in ("", "?v=0000000000000000"):
        assert "no-cache" in (await http.get(f"/v1/images/r1{path}")).headers["cache-control"]


async def test_behind_a_key_no_shared_cache_may_keep_an_image(gateway: Gateway) -> None:
    http = await gateway(api_keys="class:0123456789abcdef", headers={"authorization": "Bearer 0123456789abcdef"})
    assert (await http.get(f"/v1/images/r1{NAMED}")).headers["cache-control"].startswith("private")


async def test_an_unknown_record_has_no_image(http: httpx.AsyncClient, peer: Peer) -> None:
    peer.script.error = MirageError(Code.RECORD_NOT_FOUND, id="r9")
    response = await http.get("/v1/images/r9/thumbnail")
    assert (response.status_code, response.json()["code"]) == (404, "RECORD_NOT_FOUND")


async def test_head_tells_without_sending(http: httpx.AsyncClient) -> None:
    response = await http.head("/v1/images/r1")
    assert (response.headers["content-length"], response.content) == ("6", b"")
