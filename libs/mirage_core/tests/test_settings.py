from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from mirage_core.settings import ApiKeys, Identity, ServiceSettings, service_config, settings_table

KEY = "0123456789abcdef"


class ExampleSettings(ServiceSettings):
    model_config = service_config("MIRAGE_EXAMPLE_")

    size: int = Field(3, description="A size.")


def test_variables_are_read_with_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRAGE_EXAMPLE_SIZE", "7")
    monkeypatch.setenv("MIRAGE_API_KEYS", f"alice:{KEY}")
    settings = ExampleSettings()
    assert settings.size == 7
    assert settings.api_keys.identify(KEY) == Identity("alice")


def test_a_server_without_keys_refuses_to_listen_to_the_world() -> None:
    with pytest.raises(ValidationError, match="MIRAGE_API_KEYS"):
        ExampleSettings(host="0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "unix:/run/x.sock"])
def test_loopback_needs_no_key(host: str) -> None:
    assert ExampleSettings(host=host).host == host


@pytest.mark.parametrize("published", ["127.0.0.1", "::1", "private"])
def test_a_container_that_only_its_host_reaches_needs_no_key(published: str) -> None:
    settings = ExampleSettings(host="0.0.0.0", published=published)
    assert settings.knows_callers


@pytest.mark.parametrize("published", ["0.0.0.0", "192.0.2.7", "::", "elsewhere"])
def test_a_container_that_others_reach_needs_keys(published: str) -> None:
    with pytest.raises(ValidationError, match=f"refusing to listen on {published}"):
        ExampleSettings(host="0.0.0.0", published=published)
    keyed = ExampleSettings(host="0.0.0.0", published=published, api_keys=ApiKeys.parse(f"a:{KEY}"))
    assert keyed.knows_callers


def test_without_keys_and_container_a_caller_is_anybody() -> None:
    assert not ExampleSettings().knows_callers


def test_a_certificate_needs_its_key_and_both_be_readable(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.touch()
    with pytest.raises(ValidationError, match="both the certificate and its key"):
        ExampleSettings(tls_certificate=certificate)
    with pytest.raises(ValidationError, match="cannot read"):
        ExampleSettings(tls_certificate=certificate, tls_key=key)
    key.touch()
    assert ExampleSettings(tls_certificate=certificate, tls_key=key).tls_files() == (certificate, key)


def test_an_admin_key_is_known_as_one() -> None:
    assert ApiKeys.parse(f"root:{KEY}:admin").identify(KEY) == Identity("root", admin=True)


def test_an_unknown_key_is_nobody() -> None:
    assert ApiKeys.parse(f"a:{KEY}").identify(KEY + "x") is None


@pytest.mark.parametrize("text", ["nokey", "a:short", f":{KEY}", f"a:{KEY}:owner"])
def test_a_malformed_key_list_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match="API key number 1") as caught:
        ApiKeys.parse(text)
    assert KEY not in str(caught.value)


def test_no_key_shows_in_the_settings() -> None:
    settings = ExampleSettings(api_keys=ApiKeys.parse(f"a:{KEY}"), service_key=KEY)
    assert KEY not in repr(settings)


def test_the_table_names_each_variable() -> None:
    table = settings_table(ExampleSettings)
    assert "| `MIRAGE_EXAMPLE_SIZE` | `3` | A size. |" in table
    assert "| `MIRAGE_API_KEYS` |" in table


def test_what_is_refused_is_named_and_never_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Needy(ExampleSettings):
        needed: int = Field(description="One that has no default.")

    monkeypatch.setenv("MIRAGE_API_KEYS", "alice:short-secret")
    monkeypatch.setenv("MIRAGE_SERVICE_KEY", "another-secret")
    monkeypatch.setenv("MIRAGE_TRACES_ENDPOINT", "http://alice:third-secret@collector:4317")
    with pytest.raises(ValidationError) as caught:
        Needy()
    said = str(caught.value)
    assert all(name in said for name in ("MIRAGE_API_KEYS", "MIRAGE_TRACES_ENDPOINT", "needed"))
    assert "secret" not in said
