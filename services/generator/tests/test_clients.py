"""Whose a job is: only who may speak for others names another, or says that it is an admin."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mirage_core import context
from mirage_core.errors import Code, MirageError
from mirage_generator.clients import Caller, caller
from mirage_generator.settings import GeneratorSettings

KEYS = "gate:" + "g" * 24 + ":admin,anna:" + "a" * 24
LOCAL, ELSEWHERE = "ipv4:127.0.0.1:5000", "ipv4:172.20.0.7:5000"
ANNA, ADMIN = {"x-mirage-client": "anna"}, {"x-mirage-client": "head", "x-mirage-admin": "true"}


def settings(**fields: Any) -> GeneratorSettings:
    return GeneratorSettings(data="images", bundle="bundle", **fields)


@contextmanager
def called_by(name: str, *, admin: bool = False) -> Iterator[None]:
    before = context.client.set(name), context.admin.set(admin)
    yield
    context.client.reset(before[0])
    context.admin.reset(before[1])


@pytest.mark.parametrize(
    ("by", "fields"),
    [
        ({"name": LOCAL}, {}),
        ({"name": ELSEWHERE}, {"published": "private"}),
        ({"name": "gate", "admin": True}, {"api_keys": KEYS}),
    ],
    ids=["this machine", "a network of its own", "an admin key"],
)
def test_who_may_speak_for_others_names_clients_and_admins(by: dict[str, Any], fields: dict[str, str]) -> None:
    with called_by(**by):
        assert caller(ANNA, settings(**fields)) == Caller("anna", all_jobs=False)
        assert caller(ADMIN, settings(**fields)) == Caller("head", all_jobs=True)
        assert caller({**ADMIN, "x-mirage-admin": "1"}, settings(**fields)) == Caller("head", all_jobs=False)


@pytest.mark.parametrize(
    ("name", "fields", "seen_as"),
    [(ELSEWHERE, {}, "172.20.0.7"), ("anna", {"api_keys": KEYS}, "anna")],
    ids=["another machine", "a key of no admin"],
)
def test_nobody_else_is_believed_either(name: str, fields: dict[str, str], seen_as: str) -> None:
    with called_by(name):
        assert caller(ADMIN, settings(**fields)) == Caller(seen_as, all_jobs=False)


def test_without_keys_nobody_is_an_admin_who_names_no_client() -> None:
    with called_by(LOCAL):
        assert caller({}, settings()) == Caller("127.0.0.1", all_jobs=False)
        assert caller({"x-mirage-admin": "true"}, settings()) == Caller("127.0.0.1", all_jobs=False)


@pytest.mark.parametrize("name", ["%00", "x" * 257])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with called_by(LOCAL), pytest.raises(MirageError) as refused:
        caller({"x-mirage-client": name}, settings())
    assert refused.value.code is Code.REQUEST_MALFORMED
