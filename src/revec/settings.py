"""The environment and revec.toml → one frozen Settings, read once, by a door."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from revec.model.errors import BadInput
from revec.model.index import Kind, Writer

FILE = Path("revec.toml")


def _named(*names: str) -> Any:
    """A setting that is called what everybody calls it."""
    return Field(default=None, validation_alias=AliasChoices(*names))


class SourceTable(BaseModel):
    """One `[[collections.NAME.sources]]` of revec.toml; expressions are SQL over the table's row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    body: str
    key: list[str] = []  # the primary key unless named
    title: str = "''"
    tenant: str = "'default'"
    filter: str = "true"
    metadata: list[str] = []
    vector: str | None = None  # a column that holds the rows' vectors already: it is adopted
    writer: Writer = Writer.APP  # who keeps that column current
    model_gone: bool = False  # the model that made it answers no more


class CollectionTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    dims: int | None = None
    index: Kind | None = None
    tenants: str | None = None  # SELECT tenant, tier, priority, weight: read again each minute
    chunk: str | None = None  # "512 tokens, 64 overlap"
    truncate: int | None = Field(default=None, ge=1)  # tokens
    language: str | None = None  # a text search configuration, or none; else what the collection has
    sources: list[SourceTable] = []


class Settings(BaseSettings):
    """REVEC_* of the environment wins over revec.toml in the current folder."""

    model_config = SettingsConfigDict(
        env_prefix="REVEC_",
        env_nested_delimiter="__",
        toml_file=FILE,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
    )

    dsn: str | None = Field(default=None, repr=False)  # none: the embedded server
    home: Path | None = None  # the embedded server's folder
    openai_api_key: SecretStr | None = _named("OPENAI_API_KEY")
    openai_api_key_file: Path | None = _named("OPENAI_API_KEY_FILE")
    openai_base_url: str | None = _named("OPENAI_BASE_URL")
    gemini_api_key: SecretStr | None = _named("GEMINI_API_KEY", "GOOGLE_API_KEY")
    gemini_api_key_file: Path | None = _named("GEMINI_API_KEY_FILE", "GOOGLE_API_KEY_FILE")
    gemini_base_url: str | None = _named("GEMINI_BASE_URL")
    cohere_api_key: SecretStr | None = _named("COHERE_API_KEY", "CO_API_KEY")
    cohere_api_key_file: Path | None = _named("COHERE_API_KEY_FILE", "CO_API_KEY_FILE")
    cohere_base_url: str | None = _named("COHERE_BASE_URL")
    voyage_api_key: SecretStr | None = _named("VOYAGE_API_KEY")
    voyage_api_key_file: Path | None = _named("VOYAGE_API_KEY_FILE")
    voyage_base_url: str | None = _named("VOYAGE_BASE_URL")
    store_keys: dict[str, SecretStr] = {}  # by host, in small letters with _ for everything else
    store_key_files: dict[str, Path] = {}
    provider_timeout: float = Field(default=60.0, gt=0)
    store_timeout: float = Field(default=30.0, gt=0)  # seconds that a write to a store elsewhere may take
    freshness: float = Field(default=30.0, gt=0)  # seconds
    request_deadline: float = Field(default=5.0, gt=0)  # seconds
    early_seconds: float | None = Field(default=None, gt=0)  # for an early answer; none: 0.4 of the deadline
    lease: float = Field(default=60.0, gt=0)  # seconds
    conductor_lease: float = Field(default=10.0, gt=0)  # seconds
    claim: int | None = Field(default=None, ge=1, le=10_000)  # none: as many as fill a pack
    memory: str | None = None  # "256M"; none: the container's limit
    concurrency: int = Field(default=2, ge=1, le=64)
    idle: float = Field(default=0.1, gt=0)  # seconds to the next look when there was nothing to do
    threads: int = Field(default=1, ge=1)  # of a local model
    brake: bool = True  # the backfill yields when searches or the database become slow
    health: str | None = None  # host:port where a worker answers /livez, /readyz and /metrics
    fidelity_sample: int = Field(default=299, ge=1)
    jit_per_minute: int = Field(default=600, ge=0)  # documents that a tenant's searches may have embedded
    reconcile_every: float = Field(default=86_400.0, ge=0)  # seconds within which drift is found; 0: never
    inline_wait: float = Field(default=10.0, gt=0, le=60)  # seconds that a write inline may take
    guard_silence: float = Field(default=60.0, gt=0)  # seconds without a guard while users see a new index
    webhook: str | None = Field(default=None, repr=False)  # an address that every move is told to
    webhook_secret: SecretStr | None = None  # signs what it is told
    webhook_secret_file: Path | None = None
    bundle_key: SecretStr | None = None  # signs evidence bundles
    bundle_key_file: Path | None = None
    requests_per_second: float = Field(default=50.0, gt=0)  # of a tenant, at each `revec serve`
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_secret: SecretStr | None = None  # whoever signs with it, or
    jwt_secret_file: Path | None = None
    jwt_jwks: str | None = None  # a file or URL of public keys
    jwt_algorithms: list[str] = []  # none: HS256 of a secret, else RS256, ES256 and EdDSA
    jwt_tenant_claim: str = Field(default="tenant", min_length=1)
    jwt_role_claim: str = Field(default="role", min_length=1)
    jwt_visible_claim: str = Field(default="visible", min_length=1)
    jwt_leeway: float = Field(default=30.0, ge=0, le=300)  # seconds that clocks may differ
    collections: dict[str, CollectionTable] = {}

    def api_key(self, engine: str) -> str | None:
        """The engine's key; the one set itself wins over a file.

        Raises:
            BadInput: there is no such file, or it is no text.
        """
        key: SecretStr | None = getattr(self, f"{engine}_api_key", None)
        file: Path | None = getattr(self, f"{engine}_api_key_file", None)
        return _secret(key, file, f"{engine.upper()}_API_KEY_FILE")

    def store_key(self, host: str) -> str | None:
        """The key or password of the store at a host, as `Address.key_name` spells it.

        Raises:
            BadInput: there is no such file, or it is no text.
        """
        key, file = self.store_keys.get(host), self.store_key_files.get(host)
        return _secret(key, file, f"REVEC_STORE_KEY_FILES__{host.upper()}")

    @property
    def signing_secret(self) -> str | None:
        """What tokens are signed with, where it is a secret.

        Raises:
            BadInput: there is no such file, or it is no text.
        """
        return _secret(self.jwt_secret, self.jwt_secret_file, "REVEC_JWT_SECRET_FILE")

    @property
    def webhook_signer(self) -> str | None:
        """
        Raises:
            BadInput: there is no such file, or it is no text.
        """
        return _secret(self.webhook_secret, self.webhook_secret_file, "REVEC_WEBHOOK_SECRET_FILE")

    @property
    def bundle_signer(self) -> str | None:
        """
        Raises:
            BadInput: there is no such file, or it is no text.
        """
        return _secret(self.bundle_key, self.bundle_key_file, "REVEC_BUNDLE_KEY_FILE")

    def base_url(self, engine: str) -> str | None:
        url: str | None = getattr(self, f"{engine}_base_url", None)
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """No .env and no secrets folder: two places are enough to look in."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


@dataclass(frozen=True, slots=True)
class InForce:
    """One setting as a person may read it; of a secret no more than whether it is set."""

    name: str
    value: str
    is_default: bool


SECRET = re.compile(r"key|secret|password|token|dsn|webhook")
SET, UNSET = "set", "not set"


def in_force(settings: Settings) -> list[InForce]:
    """Every setting by name. Whatever has a secret's type or name is shown as set or not."""
    return [
        InForce(name, _readable(name, getattr(settings, name)), name not in settings.model_fields_set)
        for name in sorted(Settings.model_fields)
    ]


def _readable(name: str, value: object) -> str:
    if value is None or value in ([], {}):
        return UNSET
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):  # by name: which of them there are
        return ", ".join(f"{each}: {SET}" for each in sorted(value))
    if isinstance(value, SecretStr) or (SECRET.search(name) and not isinstance(value, (int, float))):
        return SET
    return _public(str(value))


def _public(text: str) -> str:
    """An address without whoever logs in there, and without what is asked of it."""
    if "://" not in text:
        return text
    parts = urlsplit(text)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _secret(key: SecretStr | None, file: Path | None, name: str) -> str | None:
    if key is not None or file is None:
        return key.get_secret_value() if key else None
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{name} cannot be read ({type(error).__name__}): name a file that holds the key and nothing else"
        ) from None  # the cause would show what the file holds


def read() -> Settings:
    """The settings.

    Raises:
        BadInput: what is wrong in the environment or in revec.toml.
    """
    try:
        return Settings()
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{FILE} is not TOML: {error}") from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{where} in {FILE} or the environment: {first['msg'].lower()}") from error
