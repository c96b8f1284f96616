"""Page tokens."""

import base64

import pytest

from mirage_core.errors import Code, MirageError
from mirage_retriever.pages import PageTokens, Position

POSITION = Position(offset=20, score=0.123456789, id="record-1", match=2)
QUERY, OTHER = b"q" * 16, b"o" * 16
TOKENS = PageTokens(b"atlas/fingerprint")


def is_refused(token: str, *, digest: bytes = QUERY, tokens: PageTokens = TOKENS) -> bool:
    with pytest.raises(MirageError) as caught:
        tokens.read(token, digest)
    return caught.value.code is Code.PAGE_TOKEN_INVALID


def test_a_token_reads_as_it_was_written() -> None:
    assert TOKENS.read(TOKENS.write(POSITION, QUERY), QUERY) == POSITION


def test_another_retriever_of_the_collection_reads_it() -> None:
    assert PageTokens(b"atlas/fingerprint").read(TOKENS.write(POSITION, QUERY), QUERY) == POSITION


def test_a_token_of_another_query_or_collection_is_refused() -> None:
    token = TOKENS.write(POSITION, QUERY)
    assert is_refused(token, digest=OTHER)
    assert is_refused(token, tokens=PageTokens(b"atlas/other"))


def test_a_token_changed_in_any_byte_is_refused() -> None:
    raw = bytearray(base64.urlsafe_b64decode(TOKENS.write(POSITION, QUERY) + "=="))
    for index in range(len(raw)):
        changed = raw.copy()
        changed[index] ^= 1
        assert is_refused(base64.urlsafe_b64encode(changed).rstrip(b"=").decode())


@pytest.mark.parametrize("token", ["AAAA", "!", "=", "é", "A" * 301, "A" * 300, " "])
def test_what_never_was_a_token_is_refused(token: str) -> None:
    assert is_refused(token)


def test_a_token_beyond_the_depth_is_refused() -> None:
    assert is_refused(TOKENS.write(Position(1_000, 0.1, "a", 1), QUERY))
