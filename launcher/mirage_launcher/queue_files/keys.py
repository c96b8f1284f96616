"""The keys and commands that MIRAGE writes to Redis, and the effect of the commands on the keys that are kept.

The rest follows from these: the jobs themselves have their state, their client and their expiry.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field

from mirage_launcher.queue_files.resp import Command

PREFIX = b"mirage:"
_HASHES = (b"mirage:job:", b"mirage:times:", b"mirage:outcomes")
_LISTS = (b"mirage:queue:", b"mirage:rotation:")
_STRINGS = (b"mirage:sequence",)
# Keys that follow from the jobs, keys of one run (workers, previews), and Celery's keys for tickets.
_DERIVED = re.compile(
    rb"mirage:(jobs|live|deadlines|pending|running|expiry|tickets|preview|artifacts|files|request|workers|engine|dead-letters|damaged)(:.*)?"
    rb"|mirage\.tickets.*|unacked(_index|_mutex)?(:.*)?|_kombu\..*",
    re.S,
)
# Redis itself writes some of them instead of others: DEL and UNLINK for an expired key, HMSET for a whole hash.
COMMANDS = frozenset(
    b"SELECT SET DEL UNLINK INCR HSET HMSET HDEL HINCRBY LPUSH RPUSH LPOP RPOP LREM SADD SREM ZADD ZREM "
    b"ZREMRANGEBYSCORE LTRIM RENAME EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST FLUSHDB FLUSHALL".split()
)


class ForeignCommandError(Exception):
    """A command that MIRAGE never writes; `args[0]` is its name."""


class OddCommandError(Exception):
    """A command of ours in a form that MIRAGE never writes."""


@dataclass
class Keys:
    """The effect of the commands so far. Only database 0 is read.

    Keys that MIRAGE does not write are counted in `foreign`.
    """

    hashes: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    lists: dict[bytes, list[bytes]] = field(default_factory=dict)
    strings: dict[bytes, bytes] = field(default_factory=dict)
    foreign: Counter[str] = field(default_factory=Counter)
    _database: bytes = b"0"

    def apply(self, command: Command) -> None:
        """Takes one command in. Raises ForeignCommandError and OddCommandError."""
        name, rest = command[0].upper(), command[1:]
        if name not in COMMANDS:
            raise ForeignCommandError(command[0][:40].decode("latin-1"))
        if name in (b"FLUSHDB", b"FLUSHALL"):
            if self._database == b"0" or name == b"FLUSHALL":
                self.hashes, self.lists, self.strings = {}, {}, {}
            return
        if not rest:
            raise OddCommandError
        if name == b"SELECT":
            self._database = rest[0]
            return
        if self._database != b"0":
            self.foreign["keys of another database"] += 1
            return
        if name in (b"DEL", b"UNLINK", b"RENAME"):
            # Renamed is what was damaged, and nothing to anything that counts.
            if name == b"RENAME" and (len(rest) != 2 or is_kept(rest[1])):
                raise OddCommandError
            for key in rest:
                for kind in (self.hashes, self.lists, self.strings):
                    kind.pop(key, None)
            return
        self._change(name, rest[0], rest[1:])

    def _change(self, name: bytes, key: bytes, rest: list[bytes]) -> None:
        if key.startswith(_HASHES):
            self._change_hash(name, key, rest)
        elif key.startswith(_LISTS):
            self._change_list(name, key, rest)
        elif key in _STRINGS:
            if name == b"SET" and len(rest) == 1:
                self.strings[key] = rest[0]
            elif name == b"INCR" and not rest:
                self.strings[key] = b"%d" % (_integer(self.strings.get(key, b"0")) + 1)
            else:
                raise OddCommandError
        elif not _DERIVED.fullmatch(key):
            self.foreign["keys that MIRAGE does not write"] += 1

    def _change_hash(self, name: bytes, key: bytes, rest: list[bytes]) -> None:
        match name, rest:
            case ((b"HSET" | b"HMSET"), [_, _, *_]) if len(rest) % 2 == 0:
                self.hashes.setdefault(key, {}).update(zip(rest[::2], rest[1::2], strict=True))
            case b"HINCRBY", [entry, by]:
                values = self.hashes.setdefault(key, {})
                values[entry] = b"%d" % (_integer(values.get(entry, b"0")) + _integer(by))
            case b"HDEL", [_, *_]:
                values = self.hashes.get(key, {})
                for entry in rest:
                    values.pop(entry, None)
                if not values:
                    self.hashes.pop(key, None)
            case _:
                raise OddCommandError

    def _change_list(self, name: bytes, key: bytes, rest: list[bytes]) -> None:
        values = self.lists.setdefault(key, [])
        match name, rest:
            case b"LPUSH", [_, *_]:
                values[:0] = reversed(rest)
            case b"RPUSH", [_, *_]:
                values += rest
            case ((b"LPOP" | b"RPOP"), []):
                if values:
                    values.pop(0 if name == b"LPOP" else -1)
            case b"LREM", [count, entry]:
                _remove(values, _integer(count), entry)
            case _:
                raise OddCommandError
        if not values:
            del self.lists[key]


def _remove(values: list[bytes], count: int, entry: bytes) -> None:
    # As Redis: the first `count` from the front, from the back for a negative one, all for 0.
    places = [place for place, value in enumerate(values) if value == entry]
    wanted = places[: count or None] if count >= 0 else places[count:]
    for place in reversed(wanted):
        del values[place]


def _integer(text: bytes) -> int:
    if not re.fullmatch(rb"-?[0-9]{1,19}", text):
        raise OddCommandError
    return int(text)


def is_kept(key: bytes) -> bool:
    """True for a key whose value counts."""
    return key.startswith((*_HASHES, *_LISTS)) or key in _STRINGS


def is_ours(key: bytes) -> bool:
    """True for every key that MIRAGE writes."""
    return is_kept(key) or bool(_DERIVED.fullmatch(key))


def number(text: bytes) -> float:
    """A finite number as Redis and its scripts write them; raises ValueError."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value
