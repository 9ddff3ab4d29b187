"""Two tenants on one server: neither sees the other's studies, jobs or results, by any door."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.client import LightboxClient, ServerSaid
from loadtest.server import LightboxServer, lightbox
from loadtest.studies import StudyTemplate
from serving.config import key_fingerprint
from tests.end_to_end import copy_of_store, ended_jobs, send, storescu

NORTH_KEY, SOUTH_KEY = "key of the north", "key of the south"

TOML = f"""
[[tenants]]
name = "north"
ae_titles = ["NORTH"]
api_keys_sha256 = ["{key_fingerprint(NORTH_KEY)}"]

[[tenants]]
name = "south"
ae_titles = ["SOUTH"]
api_keys_sha256 = ["{key_fingerprint(SOUTH_KEY)}"]

[[routes]]
tenant = "north"

[[routes]]
tenant = "south"
"""


@pytest.fixture(scope="module")
def server(compiled_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LightboxServer]:
    store = copy_of_store(compiled_store, tmp_path_factory.mktemp("tenants") / "store")
    for tenant in ("north", "south"):
        lightbox("promote", "ct-bones", "--tenant", tenant, "--skip-check", "--store", str(store))
    with LightboxServer(store=store, toml=TOML) as running:
        yield running


def test_tenants_with_the_same_images_share_nothing_that_either_can_see(
    server: LightboxServer, phantom_folder: Path, tmp_path: Path
) -> None:
    study = StudyTemplate.read(phantom_folder).copy("both")
    study.write(tmp_path / "both")
    north, south = server.client(NORTH_KEY), server.client(SOUTH_KEY)
    send(server, tmp_path / "both", called="NORTH")
    (job,) = ended_jobs(north, study.study_instance_uid, 1)
    assert job["state"] == "COMPLETED"

    assert south.jobs() == []
    for path in (
        f"/api/jobs/{job['id']}",
        f"/api/jobs/{job['id']}/results/bones",
        f"/dicom-web/studies/{study.study_instance_uid}",
    ):
        assert north.get(path)
        with pytest.raises(ServerSaid) as said:
            south.get(path)
        assert said.value.status == 404

    send(server, tmp_path / "both", called="SOUTH")
    (other,) = ended_jobs(south, study.study_instance_uid, 1)
    assert other["state"] == "COMPLETED"
    assert other["id"] != job["id"]
    assert other["results"][0]["sop_instance_uid"] != job["results"][0]["sop_instance_uid"]
    assert [found["id"] for found in north.jobs()] == [job["id"]]


@pytest.mark.parametrize("path", ["/api/jobs", "/api/status", "/dicom-web/studies"])
@pytest.mark.parametrize("key", ["", "key of nobody"])
def test_without_a_known_key_nothing_is_told(server: LightboxServer, path: str, key: str) -> None:
    with pytest.raises(ServerSaid) as said:
        LightboxClient(base_url=server.http, api_key=key).get(path)
    assert said.value.status == 401


def test_an_association_to_nobodys_title_is_rejected(server: LightboxServer, phantom_folder: Path) -> None:
    done = storescu(server, phantom_folder, called="NOBODY")
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stdout + done.stderr
