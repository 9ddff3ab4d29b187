"""Copies of a series under new UIDs, and what of them reaches a C-STORE receiver."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from loadtest.senders import NotStored, send_by_cstore
from loadtest.studies import StudyTemplate, other_uid
from models.phantom import PhantomSpec, phantom_series

SPEC = PhantomSpec(seed=1, slices=4, rows=64, columns=64, spacing_mm=(60.0, 5.6, 5.6))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> StudyTemplate:
    folder = tmp_path_factory.mktemp("phantom")
    phantom_series(SPEC, folder)
    return StudyTemplate.read(folder)


@pytest.mark.parametrize(
    "uid", ["1.2.826.0.1.3680043.8.498." + "1" * 38, "2.25." + "7" * 39, "1.2.840.113619.2.55"]
)
def test_another_uid_is_valid_of_equal_length_and_follows_from_the_salt(uid: str) -> None:
    other = other_uid(uid, "a")
    assert UID(other).is_valid
    assert len(other) == len(uid)
    assert other_uid(uid, "a") == other != other_uid(uid, "b")


def test_a_uid_too_short_to_differ_is_refused() -> None:
    with pytest.raises(ValueError, match="this short"):
        other_uid("1.2.3", "a")


def test_a_copy_differs_from_the_template_in_its_uids_only(template: StudyTemplate) -> None:
    copy = template.copy("a")
    for old, new in zip(template.study.instances, copy.instances, strict=True):
        before, after = dcmread(BytesIO(old.data)), dcmread(BytesIO(new.data))
        assert (after.StudyInstanceUID, after.SeriesInstanceUID) == (
            copy.study_instance_uid,
            copy.series_instance_uid,
        )
        assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID == new.sop_instance_uid
        changed = {element.keyword for element in after if before.get(element.tag) != element}
        assert changed == {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"}


def test_a_part_of_a_copy_is_the_same_images(template: StudyTemplate) -> None:
    assert template.copy("a", first=1, count=2).instances == template.copy("a").instances[1:3]


def test_a_folder_of_two_series_is_no_template(tmp_path: Path, template: StudyTemplate) -> None:
    template.study.write(tmp_path)
    (tmp_path / "other.dcm").write_bytes(template.copy("a").instances[0].data)
    with pytest.raises(ValueError, match="2 series"):
        StudyTemplate.read(tmp_path)


class Receiver:
    """A C-STORE SCP that answers with one status and keeps what it got."""

    def __init__(self) -> None:
        self.status = 0x0000
        self.received: dict[str, Any] = {}
        ae = AE(ae_title="RECEIVER")
        ae.add_supported_context(CTImageStorage)
        self._server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        assert self._server is not None
        self.port = int(self._server.server_address[1])

    def _store(self, event: evt.Event) -> int:
        self.received[str(event.dataset.SOPInstanceUID)] = event.dataset
        return self.status

    def close(self) -> None:
        assert self._server is not None
        self._server.shutdown()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


def test_every_image_arrives_by_c_store_as_it_was(receiver: Receiver, template: StudyTemplate) -> None:
    study = template.copy("sent")
    seconds = send_by_cstore(study.instances, "127.0.0.1", receiver.port, called_ae_title="RECEIVER")
    assert len(seconds) == len(study.instances)
    for instance in study.instances:
        sent = dcmread(BytesIO(instance.data))
        assert receiver.received[instance.sop_instance_uid] == sent


def test_an_image_that_is_refused_stops_the_sending_with_its_status(
    receiver: Receiver, template: StudyTemplate
) -> None:
    receiver.status = 0xA700
    with pytest.raises(NotStored, match=r"image 1 of 4: status 0xA700"):
        send_by_cstore(template.study.instances, "127.0.0.1", receiver.port, called_ae_title="RECEIVER")


def test_a_warning_is_no_refusal(receiver: Receiver, template: StudyTemplate) -> None:
    receiver.status = 0xB000
    assert send_by_cstore(template.study.instances, "127.0.0.1", receiver.port, called_ae_title="RECEIVER")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom's own socket
def test_nobody_there_is_said_in_one_sentence(template: StudyTemplate) -> None:
    with pytest.raises(NotStored, match="takes no association"):
        send_by_cstore(template.study.instances, "127.0.0.1", 1)
