"""Headers are read as plain values, quietly, or refused without a word from the file."""

import logging
import warnings
from pathlib import Path

import pytest

from models import dicom_header as tags
from models.dicom_header import Header, quiet, read_header
from models.errors import InputRefused
from tests.dicom_cases import ct_dataset, written


def test_values_are_read_as_plain_python(tmp_path: Path) -> None:
    header = read_header(str(written(ct_dataset(), tmp_path / "image.dcm")))
    assert header.text(tags.MODALITY) == "CT"
    assert header.integer(tags.ROWS) == 4
    assert header.numbers(tags.IMAGE_POSITION_PATIENT) == (-10.5, 20.25, 0.0)
    assert header.number(tags.RESCALE_INTERCEPT) == -1024
    assert header.transfer_syntax_uid() == "1.2.840.10008.1.2.1"
    assert tags.PIXEL_DATA not in header
    assert header.text(tags.RESCALE_TYPE) == ""
    assert header.number(tags.NUMBER_OF_FRAMES) is None
    assert header.integer(tags.PIXEL_PADDING_VALUE) is None


def test_values_that_pydicom_has_converted_are_the_same() -> None:
    header = Header(ct_dataset())  # type: ignore[arg-type]
    assert header.numbers(tags.PIXEL_SPACING) == (0.5, 0.75)
    assert header.integer(tags.COLUMNS) == 6
    assert header.number(tags.RESCALE_SLOPE) == 1


def test_a_tag_is_named_as_the_standard_does() -> None:
    assert str(tags.PIXEL_DATA) == "Pixel Data (7FE0,0010)"


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(b"")
    with pytest.raises(InputRefused, match="image 3: the file is no DICOM data set") as caught:
        read_header(str(path), where="image 3")
    assert caught.value.reason == "undecodable"


def test_quiet_keeps_warnings_and_logs_back_and_puts_all_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("highdicom.base")
    with quiet(), quiet():
        warnings.warn("Jane", stacklevel=1)
        log.warning("Jane")
        ct_dataset().PatientBirthDate = "Jane"
    assert "Jane" not in caplog.text
    log.warning("heard")
    assert "heard" in caplog.text
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)
