"""A configuration that cannot be meant is refused in one sentence that names the place."""

import os
from pathlib import Path

import pytest

from serving.config import ConfigError, load_config


@pytest.fixture(autouse=True)
def _no_setting_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LIGHTBOX_")]:
        monkeypatch.delenv(name)


def refused(path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "LIGHTBOX_HTPP__PORT",
            "80",
            "LIGHTBOX_HTPP__PORT is no setting of Lightbox; did you mean LIGHTBOX_HTTP?",
        ),
        ("LIGHTBOX_PORT", "80", "LIGHTBOX_PORT is no setting"),
        (
            "lightbox_datadir",
            "x",
            "LIGHTBOX_DATADIR is no setting of Lightbox; did you mean LIGHTBOX_DATA_DIR",
        ),
        ("LIGHTBOX_HTTP__PROT", "80", "http.prot"),
        ("LIGHTBOX_HTTP__PORT", "many", "http.port"),
        ("LIGHTBOX_TENANTS", "[{name: local}]", "LIGHTBOX_TENANTS: this is no JSON"),
        ("LIGHTBOX_TENANTS", '"local"', "tenants"),
        ("LIGHTBOX_TENANTS", '[{"name": "a/b"}]', "tenants.0.name"),
        ("LIGHTBOX_TENANTS", '[{"name": "a\\n"}]', "tenants.0.name"),
        ("LIGHTBOX_TENANTS__0__NAME", "local", "tenants"),
        ("LIGHTBOX_HTTP", "80,", "LIGHTBOX_HTTP: this is no JSON"),
        ("LIGHTBOX_ROUTES", '[{"when": {"Modalty": "CT"}}]', "routes.0.when"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert says in refused()


def test_what_the_command_line_reads_is_no_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTBOX_CONFIG", "lightbox.toml")
    monkeypatch.setenv("LIGHTBOX_API_KEY", "key")
    monkeypatch.setenv("LIGHTBOX_LOG_LEVEL", "ERROR")
    monkeypatch.setenv("LIGHTBOX_TENANTS", '[{"name": "local", "peers": ["192.0.2.1"]}]')
    assert load_config(None).log_level == "ERROR"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[routes]]\nwhen = { Modalty = "CT" }', "'Modalty' is no DICOM keyword"),
        ('[[routes]]\nwhen = { Modalty = "CT" }', "did you mean 'Modality'?"),
        ('[[routes]]\nwhen = { PatientName = "X" }', "'PatientName' is no DICOM keyword"),
        ("datadir = 1", "datadir"),
        ("[http", "at the end of a table"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "lightbox.toml"
    path.write_text(text, encoding="utf-8")
    sentence = refused(path)
    assert sentence.startswith(f"{path}: ")
    assert says in sentence


def test_a_file_that_is_not_utf_8_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "lightbox.toml"
    path.write_bytes('log_level = "Ä"'.encode("latin_1"))
    assert refused(path).startswith(f"{path}: ")
