"""Which connection has to go when there are too many."""

from dataclasses import dataclass

from mirage_gateway.connections import Connections, Room


@dataclass(eq=False)
class Held:
    """A connection that waits since a time; None while it must stay, as one that is new."""

    key: str
    since: float | None
    sends_body: bool = False
    evicted: bool = False
    settled: bool = True

    @property
    def rank(self) -> tuple[bool, float] | None:
        return None if self.since is None else (self.sends_body, self.since)

    def evict(self) -> None:
        self.evicted = True

    def check(self, now: float) -> None:
        del now


def registry(*held: Held, limit: int = 4, per_client: int = 3, reserve: int = 1) -> Connections:
    connections = Connections(limit=limit, per_client=per_client, reserve=reserve)
    for each in held:
        connections.add(each)
    return connections


def test_a_client_at_its_limit_loses_the_connection_that_waited_longest() -> None:
    held = [Held("a", 2.0), Held("a", 1.0), Held("a", None), Held("b", 0.0)]
    connections = registry(*held, limit=9)
    assert connections.make_room("a") is Room.FREE
    assert [each.evicted for each in held] == [False, True, False, False]
    assert len(connections) == 3


def test_a_full_server_takes_the_place_from_the_client_that_has_most() -> None:
    held = [Held("b", 0.0), Held("a", 3.0), Held("a", 2.0), Held("c", 1.0)]
    connections = registry(*held)
    assert connections.make_room("new") is Room.FREE
    assert [each.evicted for each in held] == [False, False, True, False]


def test_a_body_that_arrives_goes_after_connections_without_a_request() -> None:
    held = [Held("a", 0.0, sends_body=True), Held("a", 5.0), Held("a", None)]
    connections = registry(*held)
    assert connections.make_room("a") is Room.FREE
    assert [each.evicted for each in held] == [False, True, False]


def test_connections_that_are_being_answered_stay_and_the_reserve_is_for_probes() -> None:
    held = [Held("a", None) for _ in range(4)]
    connections = registry(*held)
    assert connections.make_room("b") is Room.RESERVE
    connections.add(Held("b", None))
    assert connections.make_room("b") is Room.NONE
    connections.remove(held[0])
    connections.remove(held[0])
    assert connections.make_room("b") is Room.RESERVE
    connections.remove(held[1])
    assert connections.make_room("b") is Room.FREE
    assert not any(each.evicted for each in held)


def test_a_proxy_that_speaks_for_many_has_no_limit_of_its_own() -> None:
    held = [Held("", 1.0) for _ in range(4)]
    connections = registry(*held, limit=5)
    assert connections.make_room("") is Room.FREE
    assert not any(each.evicted for each in held)


def test_nothing_is_evicted_before_it_was_read() -> None:
    held = [Held("a", None, settled=False) for _ in range(3)]
    connections = registry(*held)
    assert connections.make_room("a") is Room.FREE
    connections.add(Held("a", None, settled=False))
    assert connections.is_crowded
    held[0].settled, held[0].since = True, 1.0
    assert not connections.is_crowded
    assert connections.make_room("b") is Room.FREE
    assert [each.evicted for each in held] == [True, False, False]
    connections.add(Held("b", None))
    for each in held[1:]:
        each.settled = True
    assert connections.is_crowded
