"""The environment and revec.toml → one frozen Settings, read once, by a door."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from revec.model.errors import BadInput

FILE = Path("revec.toml")


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


class CollectionTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    dims: int | None = None
    index: Literal["exact", "hnsw"] | None = None
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
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: str | None = Field(default=None, validation_alias="OPENAI_BASE_URL")
    provider_timeout: float = Field(default=60.0, gt=0)
    freshness: float = Field(default=30.0, gt=0)  # seconds
    request_deadline: float = Field(default=5.0, gt=0)  # seconds
    lease: float = Field(default=60.0, gt=0)  # seconds
    conductor_lease: float = Field(default=10.0, gt=0)  # seconds
    claim: int = Field(default=256, ge=1, le=10_000)
    concurrency: int = Field(default=2, ge=1, le=64)
    idle: float = Field(default=0.1, gt=0)  # seconds to the next look when there was nothing to do
    threads: int = Field(default=1, ge=1)  # of a local model
    brake: bool = True  # the backfill yields when searches or the database become slow
    health: str | None = None  # host:port where a worker answers /livez and /readyz
    fidelity_sample: int = Field(default=299, ge=1)
    collections: dict[str, CollectionTable] = {}

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
