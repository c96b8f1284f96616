import pytest

from mirage_core.context import address_of, is_this_machine


@pytest.mark.parametrize(
    ("peer", "address", "here"),
    [
        ("ipv4:127.0.0.1:4000", "127.0.0.1", True),
        ("ipv6:[::1]:4000", "::1", True),
        ("ipv6:%5B::1%5D:4000", "::1", True),
        ("unix:", "unix:", True),
        ("ipv4:10.0.0.7:4000", "10.0.0.7", False),
        ("ipv6:[2001:db8::1]:4000", "2001:db8::1", False),
        ("teacher", "teacher", False),
        ("", "", False),
    ],
)
def test_a_peer_is_known_by_its_address_without_the_port(peer: str, address: str, here: bool) -> None:
    assert address_of(peer) == address
    assert is_this_machine(peer) is here
