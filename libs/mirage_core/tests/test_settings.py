from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, ValidationError
from pydantic_settings import SettingsError

from mirage_core.settings import ApiKeys, Identity, Role, Secret, ServiceSettings, service_config, settings_table

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
    assert ApiKeys.parse(f"root:{KEY}:admin").identify(KEY) == Identity("root", Role.ADMIN)


def test_an_unknown_key_is_nobody() -> None:
    assert ApiKeys.parse(f"a:{KEY}").identify(KEY + "x") is None


@pytest.mark.parametrize(("given", "role"), [("", Role.READ), (":read", Role.READ), (":write", Role.WRITE)])
def test_a_key_without_a_role_may_read(given: str, role: Role) -> None:
    assert ApiKeys.parse(f"a:{KEY}{given}").identify(KEY) == Identity("a", role)


def test_keys_may_be_lines() -> None:
    keys = ApiKeys.parse(f"a:{KEY}\nb:{KEY}x:admin\n")
    assert (keys.identify(KEY), keys.identify(f"{KEY}x")) == (Identity("a"), Identity("b", Role.ADMIN))


def test_one_key_for_two_callers_is_refused() -> None:
    with pytest.raises(ValueError, match="API key number 2"):
        ApiKeys.parse(f"a:{KEY},b:{KEY}:admin")


class SecretSettings(ServiceSettings):
    model_config = service_config("MIRAGE_SECRET_")

    password: Annotated[str, Secret()] = Field("", repr=False, description="A password.")
    plain: str = Field("", description="No secret.")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("from the file\n")
    return path


def test_a_secret_comes_from_a_file(monkeypatch: pytest.MonkeyPatch, secret: Path) -> None:
    monkeypatch.setenv("MIRAGE_SECRET_PASSWORD_FILE", str(secret))
    # As compose sets what is not set.
    monkeypatch.setenv("MIRAGE_SECRET_PASSWORD", "")
    assert SecretSettings().password == "from the file"
    assert SecretSettings(password="given").password == "given"
    assert "MIRAGE_SECRET_PASSWORD_FILE" in settings_table(SecretSettings)


def test_the_keys_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"alice:{KEY}:write\n")
    monkeypatch.setenv("MIRAGE_API_KEYS_FILE", str(file))
    monkeypatch.setenv("MIRAGE_API_KEYS", "")
    assert ExampleSettings().api_keys.identify(KEY) == Identity("alice", Role.WRITE)
    assert not ExampleSettings(api_keys=ApiKeys({})).api_keys
    file.write_text("alice:short-secret")
    with pytest.raises(ValidationError) as caught:
        ExampleSettings()
    assert "short-secret" not in str(caught.value)


def test_a_setting_that_is_no_secret_does_not_come_from_a_file(monkeypatch: pytest.MonkeyPatch, secret: Path) -> None:
    monkeypatch.setenv("MIRAGE_SECRET_PLAIN_FILE", str(secret))
    assert SecretSettings().plain == ""


@pytest.mark.parametrize("bad", ["both", "absent", "a folder", "empty", "binary", "the secret itself"])
def test_a_file_that_does_not_do_is_named_by_its_variable_alone(
    monkeypatch: pytest.MonkeyPatch, secret: Path, bad: str
) -> None:
    path = {"absent": secret.with_name("nothing"), "a folder": secret.parent, "the secret itself": Path("hunter2!")}
    monkeypatch.setenv("MIRAGE_SECRET_PASSWORD_FILE", str(path.get(bad, secret)))
    match bad:
        case "both":
            monkeypatch.setenv("MIRAGE_SECRET_PASSWORD", "from the variable")
        case "empty":
            secret.write_text(" \n")
        case "binary":
            secret.write_bytes(b"\xff\xfe hunter2")
    with pytest.raises(SettingsError, match="MIRAGE_SECRET_PASSWORD_FILE") as caught:
        SecretSettings()
    assert not any(quoted in str(caught.value) for quoted in ("from the", "hunter2", str(secret.parent)))


@pytest.mark.parametrize("text", ["nokey", "a:short", f":{KEY}", f"a:{KEY}:owner", f"a\x07:{KEY}"])
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
