"""Settings: the only reader of environment variables and configuration files.

Read by `cli`, `flows/`, `services/` and `wiring`; every other room receives plain values. The environment (prefix
`AFFINAGE_`) wins over `affinage.toml` in `AFFINAGE_HOME`, which wins over the defaults. Unknown keys are refused in both.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from affinage.errors import ConfigurationError

PREFIX = "AFFINAGE_"
CONNECTION = "connection_"


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affinage"


class Settings(BaseModel):
    """All that can be configured. Frozen; relative paths are resolved against the working directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Path(".affinage")
    """State of the embedded installation: database, vectors, blobs, registry."""
    cache: Path = Field(default_factory=_cache_home)
    """What can be derived again: unpacked weights. Shared by all homes of this user."""
    flows: Path | None = None
    """Folder of the Prefect flows; default: `flows/` of the checkout this package is installed from."""
    database_url: SecretStr | None = None
    """SQLAlchemy URL of the record of truth; default: SQLite in `home`."""
    registry_url: str | None = None
    """MLflow tracking and registry URI; default: SQLite in `home`."""
    vectors_url: str | None = None
    """Weaviate server, `http://HOST:PORT`; default: LanceDB in `home`."""
    vectors_grpc_port: int = Field(default=50051, ge=1, le=65535)
    vectors_api_key: SecretStr | None = None
    """Key of the Weaviate server; None: it lets in whoever reaches it."""
    blobs_url: str | None = None
    """Where blobs are kept: `s3://BUCKET/PREFIX`; default: a folder in `home`."""
    s3_endpoint_url: str | None = None
    """An S3 server on site; default: the one that boto3 is configured for."""
    source_roots: tuple[Path, ...] = ()
    """Folders below which folder sources may lie. Empty: anywhere (one machine, one user)."""
    connections: dict[str, SecretStr] = Field(default_factory=dict)
    """SQLAlchemy URL of each database that an SQL source may name; in the environment one variable each, `AFFINAGE_CONNECTION_<NAME>`."""
    egress_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    """Hosts that an endpoint of a model, an S3 server or a web source may name; a private address of a web site stands here too."""
    embedder_url: str | None = None
    """The embedder's service, `http://HOST:PORT`, with all pods behind that name; default: in this process."""
    embedding_price: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Price of embedding a million tokens, in any currency, for the `cost` of a dry run; 0: nothing is paid by the token."""
    generators: tuple[str, ...] = ()
    """Engines that are served elsewhere, `ENGINE=http://HOST:PORT` each; the others run in this process."""
    generator_engine: str = "package:smollm2"
    """What a generator's service serves: the packaged model, or a folder with weights."""
    generator_precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Arithmetic of a generator's service; float32 where the processor has no bf16 instructions."""
    generator_runtime: Literal["transformers", "vllm"] = "transformers"
    """What runs the model of a generator's service."""
    generator_vllm: Path = Path("/opt/vllm/bin/python")
    """Python of the environment that vLLM is installed in, for a generator's service with that runtime."""
    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(default=8400, ge=0, le=65535)
    metrics_port: int = Field(default=8401, ge=0, le=65535)
    threads: int = Field(default=0, ge=0)
    """Threads of one model session; 0: one for each core of this process."""
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"

    @field_validator("generators")
    @classmethod
    def _entries(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            engine, _, url = entry.partition("=")
            if not engine or not url.startswith("http://"):
                raise ValueError(f"`{entry}` is not ENGINE=http://HOST:PORT")
        return entries

    @property
    def generator_urls(self) -> dict[str, str]:
        """Address of each engine that is served elsewhere."""
        return {engine: url for engine, _, url in (entry.partition("=") for entry in self.generators)}


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment and `affinage.toml`.

    Raises
    ------
    ConfigurationError
        If a key is unknown, a value is wrong, or the file is not TOML.
    """
    environ = os.environ if environ is None else environ
    given = {key.removeprefix(PREFIX).lower(): value for key, value in environ.items() if key.startswith(PREFIX)}
    named = {key.removeprefix(CONNECTION): given.pop(key) for key in list(given) if key.startswith(CONNECTION)}
    home = Path(given.get("home", Settings.model_fields["home"].default)).expanduser().absolute()
    file = home / "affinage.toml"
    values: dict[str, Any] = {**_read_file(file), **{key: _split(key, value) for key, value in given.items()}, "home": home}
    if named:
        values["connections"] = {**(values.get("connections") or {}), **named}
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f"environment variable {PREFIX}{key.upper()}" if key in given else f"key `{key}` in {file}"
        known = ", ".join(sorted(Settings.model_fields))
        what = "is not known" if first["type"] == "extra_forbidden" else f"is wrong: {first['msg']}"
        raise ConfigurationError(f"The {where} {what}.", hint=f"The keys are: {known}.", key=key) from error


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}.", hint="Correct the file or remove it.") from error


def _split(key: str, value: str) -> object:
    field = Settings.model_fields.get(key)
    if field is not None and "tuple" in str(field.annotation):
        return tuple(part for part in value.split(os.pathsep if "Path" in str(field.annotation) else ",") if part)
    return value
