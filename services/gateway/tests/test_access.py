import pytest

from mirage_core.errors import Code, MirageError
from mirage_gateway.access import check_may_write


@pytest.mark.parametrize("peer", ["ipv4:127.0.0.1:4000", "ipv6:[::1]:4000", "ipv6:%5B::1%5D:4000", "unix:"])
def test_this_machine_may_write_where_no_keys_are_set(peer: str) -> None:
    check_may_write(peer, keyed=False)


@pytest.mark.parametrize("peer", ["ipv4:10.0.0.7:4000", "ipv6:[2001:db8::1]:4000", "", "localhost", "ipv4:127.0.0.1"])
def test_others_may_not(peer: str) -> None:
    with pytest.raises(MirageError) as caught:
        check_may_write(peer, keyed=False)
    assert caught.value.code is Code.API_KEY_REQUIRED


def test_whoever_has_shown_a_key_may_write() -> None:
    check_may_write("teacher", keyed=True)
