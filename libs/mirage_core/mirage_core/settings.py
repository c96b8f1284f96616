"""Settings: one frozen class per service, read from MIRAGE_<SERVICE>_* variables."""

import hashlib
import hmac
import ipaddress
import os
import re
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)


class Role(IntEnum):
    """The rights of a key; each role includes the ones before it."""

    READ = 1
    WRITE = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Identity:
    """The caller: the name and role of the API key, or the peer's address if no keys are set.

    `public` is a caller without a key on a server with keys that allows public reading.
    """

    name: str
    role: Role = Role.READ
    keyed: bool = True
    public: bool = False

    @property
    def admin(self) -> bool:
        """True if the caller has shown an admin key."""
        return self.keyed and self.role is Role.ADMIN


_ROLES = {str(role): role for role in Role}


class ApiKeys:
    """The API keys that a server accepts; none at all means that it asks for none.

    Keys are kept as SHA-256 digests, so that neither a log line nor a dump of the settings shows one.
    """

    def __init__(self, keys: dict[bytes, Identity]) -> None:
        self._keys = keys

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `name:key[:read|write|admin]`, separated by commas or line breaks; without a role it is `read`.

        Raises ValueError, which never quotes a key.
        """
        keys: dict[bytes, Identity] = {}
        for index, item in enumerate(filter(None, (part.strip() for part in re.split(r"[,\n]", text)))):
            name, _, rest = item.partition(":")
            key, _, role = rest.partition(":")
            if not name or not name.isprintable() or len(key) < 16 or (role or "read") not in _ROLES:
                raise ValueError(
                    f"API key number {index + 1}: expected name:key, name:key:read, name:key:write or name:key:admin, "
                    "key of 16 or more characters"
                )
            digest = hashlib.sha256(key.encode()).digest()
            if digest in keys:
                raise ValueError(f"API key number {index + 1}: the same key was given before")
            keys[digest] = Identity(name, _ROLES[role or "read"])
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def identify(self, key: str) -> Identity | None:
        """The identity behind a key, in time that does not depend on how much of it is right.

        None for an unknown one.
        """
        digest = hashlib.sha256(key.encode()).digest()
        found: Identity | None = None
        for known, identity in self._keys.items():
            if hmac.compare_digest(known, digest):
                found = identity
        return found

    def __repr__(self) -> str:
        return f"ApiKeys({[identity.name for identity in self._keys.values()]})"


class Secret:
    """Marks a setting as a secret: `<VARIABLE>_FILE` may name a file that holds it."""


class SecretFiles(PydanticBaseSettingsSource):
    """Reads the secrets that files hold. Neither a secret nor the name of a file is in an error: the two get mixed
    up.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Returns the content of the file that is named for a field, or None. Raises SettingsError."""
        variable = variable_of(self.settings_cls, field_name)
        named = os.environ.get(f"{variable}_FILE", "")
        if not named or not _is_secret(field):
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set: set one of them")
        return read_secret(f"{variable}_FILE", named), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Returns the secrets by the names of the variables that they replace; an empty variable counts as omitted."""
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, _, _ = self.get_field_value(field, name)
            if value is not None:
                found[variable_of(self.settings_cls, name) if field.validation_alias else name] = value
        return found


def _is_secret(field: FieldInfo) -> bool:
    return any(isinstance(each, Secret) for each in field.metadata)


def read_secret(variable: str, path: str) -> str:
    """Returns the content of the file that `variable` names, without white space around it. Raises SettingsError."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"the file that {variable} names cannot be read: {error.strerror}") from None
    except ValueError:
        raise SettingsError(f"the file that {variable} names is not text") from None
    if not text:
        raise SettingsError(f"the file that {variable} names is empty")
    return text


def _api_keys(value: Any) -> ApiKeys:
    return value if isinstance(value, ApiKeys) else ApiKeys.parse(str(value or ""))


def is_loopback(host: str) -> bool:
    """True for localhost, a loopback address and a unix socket."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# Value of `published` for a server that only the containers of its own network reach.
PRIVATE = "private"


class ServiceSettings(BaseSettings):
    """Common settings of all services. Subclasses set the prefix with `service_config` and add their own fields."""

    # The refused value may be a key: an error names the variable, never its value.
    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    host: str = Field(
        "127.0.0.1", description="Address to listen on; any address except loopback needs MIRAGE_API_KEYS."
    )
    port: int = Field(0, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    published: str = Field(
        "",
        description="In a container: the host's address at which the container engine publishes the ports, or `private` if it "
        "publishes none. MIRAGE_API_KEYS is needed if this address, not the container's own, is not loopback.",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate and its chain; with it the ports speak TLS only."
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key.")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Port of the Prometheus metrics; no metrics if omitted."
    )
    drain_s: float = Field(5.0, ge=0, le=300, description="Seconds that running calls get to end at shutdown.")
    connection_age_s: float = Field(
        300.0,
        ge=1,
        le=86_400,
        description="Seconds after which a caller has to connect again, once its running calls have ended. New servers get their "
        "share of callers that way.",
    )
    max_grpc_connections: int = Field(
        256, ge=1, le=100_000, description="gRPC connections at once; one more is closed."
    )
    max_calls: int = Field(1024, ge=1, le=100_000, description="gRPC calls served at once; one more gets QUEUE_FULL.")
    max_watchers: int = Field(
        1024,
        ge=1,
        le=100_000,
        description="Long answers (watches of jobs, descriptions) at once; one more gets QUEUE_FULL.",
    )
    message_memory_mb: int = Field(
        256,
        ge=128,
        le=1_000_000,
        description="MiB that gRPC messages may take while they arrive and are worked on; one more gets QUEUE_FULL.",
    )
    api_keys: Annotated[ApiKeys, NoDecode, BeforeValidator(_api_keys), Secret()] = Field(
        default_factory=lambda: ApiKeys({}),
        validation_alias=AliasChoices("MIRAGE_API_KEYS", "api_keys"),
        description="name:key, name:key:write or name:key:admin, separated by commas or line breaks; a key without a role may "
        "read. With keys set, every call needs one.",
    )
    service_key: Annotated[str, Secret()] = Field(
        "",
        repr=False,
        validation_alias=AliasChoices("MIRAGE_SERVICE_KEY", "service_key"),
        description="The API key that this service sends to the others.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias=AliasChoices("MIRAGE_LOG_LEVEL", "log_level"), description="Least severe line logged."
    )
    log_format: Literal["json", "console"] = Field(
        "json", validation_alias=AliasChoices("MIRAGE_LOG_FORMAT", "log_format"), description="Format of the log lines."
    )
    traces_endpoint: str = Field(
        "",
        pattern=r"^(https?://[\w.\-\[\]:]+)?$",
        validation_alias=AliasChoices("MIRAGE_TRACES_ENDPOINT", "traces_endpoint"),
        description="OTLP endpoint that traces are sent to by gRPC, such as `http://collector:4317`; no traces if empty.",
    )

    # True for a server whose callers do not trust each other: one of them gets half of what there is at most.
    shares_fairly: ClassVar[bool] = False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Adds the files that `*_FILE` variables name."""
        return init_settings, SecretFiles(settings_cls), env_settings, dotenv_settings, file_secret_settings

    @model_validator(mode="after")
    def _closed_unless_keyed(self) -> Self:
        if not (self.near or self.asks_for_keys):
            reached_at = self.published or self.host
            raise ValueError(f"refusing to listen on {reached_at} without API keys: set MIRAGE_API_KEYS")
        return self

    @model_validator(mode="after")
    def _certificate_with_its_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("TLS needs both the certificate and its key")
        for path in (self.tls_certificate, self.tls_key):
            if path is not None and not os.access(path, os.R_OK):
                raise ValueError(f"cannot read {path}")
        return self

    @property
    def near(self) -> bool:
        """True if only this machine, or the containers of a network of their own, can reach the server."""
        return self.published == PRIVATE or is_loopback(self.published or self.host)

    @property
    def asks_for_keys(self) -> bool:
        """True if a caller without a key may not do everything."""
        return bool(self.api_keys)

    @property
    def knows_callers(self) -> bool:
        """True where every caller has shown a key, or can only have come from the machine that the container runs
        on.
        """
        return bool(self.api_keys or self.published)

    def tls_files(self) -> tuple[Path, Path] | None:
        """Returns certificate and key; None if the ports use plain text."""
        return (self.tls_certificate, self.tls_key) if self.tls_certificate and self.tls_key else None


def service_config(prefix: str) -> SettingsConfigDict:
    """The model_config of a service's settings class, for variables that begin with `prefix`."""
    return SettingsConfigDict(
        env_prefix=prefix,
        frozen=True,
        extra="ignore",
        arbitrary_types_allowed=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )


def variable_of(settings: type[BaseSettings], name: str) -> str:
    """Returns the environment variable of a setting."""
    alias = settings.model_fields[name].validation_alias
    prefix = str(settings.model_config.get("env_prefix", ""))
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{prefix}{name.upper()}"


def settings_table(settings: type[ServiceSettings]) -> str:
    """The settings as a Markdown table: variable, default, meaning."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        variable = variable_of(settings, name)
        default = "" if field.default_factory or field.default is None else str(field.get_default())
        shown = "required" if field.is_required() else f"`{default}`" if default else ""
        file = f" Or the file that `{variable}_FILE` names." if _is_secret(field) else ""
        lines.append(f"| `{variable}` | {shown} | {field.description or ''}{file} |")
    return "\n".join(lines) + "\n"
