"""The container listens on every address: there HTTP asks for a key, and a key in LIGHTBOX_TENANTS opens it.

The same settings without docker; DICOM stays on loopback.
"""

import json
import re
import shlex
from collections.abc import Mapping

import pytest

from loadtest.client import ServerSaid
from loadtest.server import LightboxServer
from serving.config import key_fingerprint
from tests.conftest import REPOSITORY

KEY = "a key of the tests"
EVERYWHERE = {"LIGHTBOX_HTTP__HOST": "0.0.0.0"}


def documented_tenants(file: str) -> Mapping[str, object]:
    """The one tenant in the `docker run` of this file, with our key in place of the one to be filled in."""
    text = (REPOSITORY / file).read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.search(r"LIGHTBOX_TENANTS='(\[.*?\"api_keys_sha256\": \[\").*?(\"\]\}\])'", text, re.DOTALL)
    assert found is not None
    (tenant,) = json.loads(found[1] + key_fingerprint(KEY) + found[2])
    assert isinstance(tenant, dict)
    return tenant


def test_the_image_listens_where_a_key_is_needed() -> None:
    assert all(f"{name}={value}" in dockerfile_environment() for name, value in EVERYWHERE.items())


def dockerfile_environment() -> list[str]:
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [word for line in text.splitlines() if line.startswith("ENV ") for word in shlex.split(line)]


def test_without_a_key_every_door_to_data_is_closed_and_health_is_told() -> None:
    with LightboxServer(settings=EVERYWHERE) as server:
        client = server.client()
        assert client.is_ready()
        for path in ("/api/status", "/api/jobs", "/dicom-web/studies/1.2.3"):
            with pytest.raises(ServerSaid) as said:
                client.get(path)
            assert said.value.status == 401


@pytest.mark.parametrize("file", ["Dockerfile", "README.md"])
def test_the_documented_tenants_open_the_doors_to_the_key(file: str) -> None:
    settings = {**EVERYWHERE, "LIGHTBOX_TENANTS": json.dumps([documented_tenants(file)])}
    with LightboxServer(settings=settings) as server:
        assert server.client(KEY).status()["tenant"] == "local"
        for key in ("", "another"):
            with pytest.raises(ServerSaid) as said:
                server.client(key).status()
            assert said.value.status == 401
