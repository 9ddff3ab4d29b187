"""Every setting of the server, checked when it is read; building a Config touches no file but its own.

Settings come from a TOML file and from environment variables (`LIGHTBOX_` + name, `__` between levels:
`LIGHTBOX_DIMSE__PORT=11113`); the environment wins. Without either, everything below is the embedded
default: loopback ports, data under ./lightbox-data, one tenant called `local`. Of the names that begin
with `LIGHTBOX_` only those below and OTHER_VARIABLES may be set: a misspelt one is an error.
"""

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from serving.dicom.instance import ATTRIBUTES

AeTitle = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16)]
"""Value representation AE: 1 to 16 characters (PS3.5 6.2)."""

TENANT_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""What a tenant may be called: it is a part of names in the store, where `/` parts the levels."""

_PREFIX = "LIGHTBOX_"
OTHER_VARIABLES = frozenset({"LIGHTBOX_CONFIG", "LIGHTBOX_API_KEY"})
"""Environment variables that are ours and no settings: options of the command line."""


class ConfigError(Exception):
    """A configuration that cannot be used; the message names the file and the setting."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Http(Section):
    host: str = "127.0.0.1"
    port: int = Field(8640, ge=0, le=65535, description="0 takes a free port")
    max_body_bytes: int = Field(8 << 30, gt=0, description="a STOW-RS request larger than this gets 413")


class Dimse(Section):
    host: str = "127.0.0.1"
    port: int = Field(11112, ge=0, le=65535, description="0 takes a free port")
    ae_title: AeTitle = "LIGHTBOX"
    max_associations: int = Field(64, ge=1)
    idle_timeout_s: float = Field(60.0, gt=0, description="an association silent for so long is aborted")


class Completeness(Section):
    quiet_s: float = Field(1.0, ge=0, description="after the sender closed: wait for another association")
    timeout_s: float = Field(60.0, gt=0, description="no new image for so long: complete")


class Pools(Section):
    cpu_threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    gil_processes: int = Field(default_factory=lambda: min(os.cpu_count() or 1, 8), ge=1)
    memory_bytes: int = Field(8 << 30, gt=0, description="planned peak of all running jobs together")
    run_deadline_s: float = Field(600.0, gt=0, description="a stage run that takes longer is killed")
    retries: int = Field(2, ge=0, description="how often a run lost to a crash is tried again")


class Spool(Section):
    min_free_bytes: int = Field(1 << 30, ge=0, description="less free disk than this refuses new images")
    max_object_bytes: int = Field(4 << 30, gt=0, description="a larger object is refused")


class Tenant(Section):
    """Whose data it is: by called AE title and peer on DIMSE, by API key on HTTP."""

    name: Annotated[str, StringConstraints(pattern=TENANT_NAME)]
    ae_titles: tuple[AeTitle, ...] = Field((), description="called AE titles that mean this tenant")
    peers: tuple[str, ...] = Field((), description="addresses or networks allowed to send; empty: any")
    api_keys_sha256: tuple[str, ...] = Field((), description="SHA-256 (hex) of each API key")


class Route(Section):
    """Which promoted pipelines a series is given to. `when` maps DICOM keywords to shell patterns."""

    tenant: str = "local"
    pipelines: tuple[str, ...] = Field(("*",), description="shell patterns of promoted names")
    when: Mapping[str, str] = Field(default_factory=lambda: {"Modality": "CT"})

    @field_validator("when")
    @classmethod
    def _keywords_are_kept(cls, when: Mapping[str, str]) -> Mapping[str, str]:
        known = set(ATTRIBUTES.values())
        for keyword in when:
            if keyword not in known:
                meant = get_close_matches(keyword, known, n=1)
                hint = f"; did you mean '{meant[0]}'?" if meant else f"; known are {', '.join(sorted(known))}"
                raise ValueError(f"'{keyword}' is no DICOM keyword that a series can be routed by{hint}")
        return when


class Destination(Section):
    """A C-STORE SCP that results are pushed to."""

    name: str
    tenant: str = "local"
    ae_title: AeTitle
    host: str
    port: int = Field(ge=1, le=65535)
    calling_ae_title: AeTitle = "LIGHTBOX"
    attempts: int = Field(8, ge=1)
    backoff_s: float = Field(2.0, gt=0, description="doubles at each attempt, up to 5 minutes")


class Config(BaseSettings):
    """See the module's docstring. Frozen; services get the parts they need."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    data_dir: Path = Path("lightbox-data")
    store_dir: Path | None = Field(None, description="the object store; default: data_dir/store")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    http: Http = Http()
    dimse: Dimse = Dimse()
    completeness: Completeness = Completeness()
    pools: Pools = Pools()
    spool: Spool = Spool()
    tenants: tuple[Tenant, ...] = (Tenant(name="local"),)
    routes: tuple[Route, ...] = (Route(),)
    destinations: tuple[Destination, ...] = ()

    @property
    def store_path(self) -> Path:
        return self.store_dir or self.data_dir / "store"

    @model_validator(mode="after")
    def _names_are_known_and_distinct(self) -> Self:
        names = [tenant.name for tenant in self.tenants]
        if len(set(names)) < len(names):
            raise ValueError("tenants: two have the same name")
        claimed = [title for tenant in self.tenants for title in tenant.ae_titles]
        if len(set(claimed)) < len(claimed):
            raise ValueError("tenants: an AE title belongs to two of them")
        for place, used in (("routes", self.routes), ("destinations", self.destinations)):
            for item in used:
                if item.tenant not in names:
                    raise ValueError(f"{place}: there is no tenant '{item.tenant}'")
        if len({d.name for d in self.destinations}) < len(self.destinations):
            raise ValueError("destinations: two have the same name")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (EnvSettingsSource(settings_cls), init_settings)  # the environment wins over the file


def load_config(path: Path | None) -> Config:
    """The configuration from a TOML file (or none) and the environment.

    Raises: ConfigError naming the file and the setting.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error
    _refuse_unknown_variables()
    try:
        return Config(**values)
    except SettingsError as error:  # a list or a table that is no JSON
        raise ConfigError(f"environment: {_malformed_variable()}: this is no JSON") from error
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"]) or "settings"
        raise ConfigError(f"{path or 'environment'}: {setting}: {first['msg']}") from error


def _variables() -> dict[str, str]:
    """Those of the environment that are ours, by name in upper case."""
    return {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(_PREFIX)}


def _setting_of(variable: str) -> str:
    """The top-level setting that a variable of ours is about."""
    return variable.removeprefix(_PREFIX).partition("__")[0].lower()


def _refuse_unknown_variables() -> None:
    known = Config.model_fields.keys()
    for variable in sorted(_variables().keys() - OTHER_VARIABLES):
        if _setting_of(variable) not in known:
            meant = get_close_matches(_setting_of(variable), known, n=1)
            hint = f"; did you mean {_PREFIX}{meant[0].upper()}?" if meant else ""
            raise ConfigError(f"environment: {variable} is no setting of Lightbox{hint}")


def _malformed_variable() -> str:
    """The variables whose text should be JSON and is not."""
    found = []
    for name, value in sorted(_variables().items()):
        structured = Config.model_fields.keys() - {"data_dir", "store_dir", "log_level"}
        if "__" not in name and _setting_of(name) in structured:
            try:
                json.loads(value)
            except ValueError:
                found.append(name)
    return ", ".join(found) or "a value"


def key_fingerprint(api_key: str) -> str:
    """What the configuration keeps of an API key: its SHA-256 in hex."""
    return hashlib.sha256(api_key.encode()).hexdigest()
