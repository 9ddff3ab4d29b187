"""The files in deploy/ fit the server they configure."""

import os
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from serving.config import Config, load_config
from tests.conftest import REPOSITORY

EXAMPLE = REPOSITORY / "deploy" / "lightbox.example.toml"


@pytest.fixture(autouse=True)
def _no_setting_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LIGHTBOX_")]:
        monkeypatch.delenv(name)


def test_the_example_configuration_is_accepted() -> None:
    config = load_config(EXAMPLE)
    assert [tenant.name for tenant in config.tenants] == ["local", "north-clinic"]
    assert config.destinations[0].tenant == "north-clinic"


def test_the_example_configuration_shows_every_setting() -> None:
    shown = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    missing = set()
    for name, field in Config.model_fields.items():
        if name not in shown:
            missing.add(name)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            missing |= {f"{name}.{key}" for key in field.annotation.model_fields.keys() - shown[name].keys()}
    for name in ("tenants", "routes", "destinations"):
        value = getattr(load_config(EXAMPLE), name)[-1]
        missing |= {f"{name}.{key}" for key in type(value).model_fields.keys() - shown[name][-1].keys()}
    assert missing == set()


def test_what_the_example_does_not_call_an_example_is_the_default() -> None:
    text = EXAMPLE.read_text(encoding="utf-8").split("[[tenants]]")[0]
    kept = tomllib.loads("\n".join(line for line in text.splitlines() if "# example" not in line))
    default = Config().model_dump(mode="json")
    for name, value in kept.items():
        assert default[name] == value or default[name].items() >= value.items(), name


def test_the_example_listens_on_loopback() -> None:
    config = load_config(EXAMPLE)
    assert {config.http.host, config.dimse.host} == {"127.0.0.1"}


def test_the_service_starts_the_command_that_the_project_installs() -> None:
    unit = (REPOSITORY / "deploy" / "lightbox.service").read_text(encoding="utf-8")
    started = next(line for line in unit.splitlines() if line.startswith("ExecStart=")).removeprefix(
        "ExecStart="
    )
    program, *arguments = started.split()
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert Path(program).name in scripts
    assert arguments == ["serve", "--config", "/etc/lightbox/lightbox.toml"]
