"""Decoding gives real-world values of every pixel representation, or refuses by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from models.dicom_header import quiet
from models.errors import InputRefused, PipelineError
from models.operators.decode import AIR_HU, DecodeImages
from models.values import HU, ONE, ImageReference, Kind, Series, ValueType
from tests.dicom_cases import AXIAL, CONTEXT, ct_dataset, ct_series, decoded, real_series, series_of, written

CODINGS = ("mr-jpegll", "mr-j2k", "mr-jpegls", "mr-rle")


def one(path: Path) -> Series:
    return Series((ImageReference(str(path), "digest", "1.2"),))


def values_of(image: Dataset, path: Path, unit: str = "HU") -> np.ndarray[Any, Any]:
    return decoded(one(written(image, path)), unit).images[0].pixels


def refusal(image: Dataset, path: Path, unit: str = "HU") -> InputRefused:
    with pytest.raises(InputRefused) as caught:
        values_of(image, path, unit)
    assert "Jane" not in str(caught.value)
    assert "SECRET" not in str(caught.value)
    return caught.value


def test_stored_values_become_hounsfield_units_at_their_place(tmp_path: Path) -> None:
    series = ct_series(tmp_path, np.arange(48, dtype=np.int16).reshape(2, 4, 6))
    images = decoded(Series(series.images[1:], offset=1)).images
    assert [image.image_index for image in images] == [1]
    np.testing.assert_array_equal(images[0].pixels, np.arange(24).reshape(4, 6) - 1024)
    assert images[0].pixels.dtype == np.float32
    assert images[0].unit == HU
    assert images[0].image_position_patient == (-10.5, 20.25, 0.0)
    assert images[0].image_orientation_patient == AXIAL
    assert images[0].pixel_spacing == (0.5, 0.75)
    assert images[0].frame_of_reference_uid == "1.2.826.0.1.3680043.8.498.4"


def test_images_of_one_part_share_one_array(tmp_path: Path) -> None:
    images = decoded(ct_series(tmp_path, np.zeros((3, 4, 6), np.int16))).images
    assert images[0].pixels.base is not None
    assert images[0].pixels.base is images[2].pixels.base


def test_images_of_mixed_size_are_decoded_all_the_same(tmp_path: Path) -> None:
    small = written(ct_dataset(np.ones((2, 3), np.int16), number=2), tmp_path / "b.dcm")
    paths = [written(ct_dataset(), tmp_path / "a.dcm"), small]
    assert [image.pixels.shape for image in decoded(series_of(paths)).images] == [(4, 6), (2, 3)]


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
        ExplicitVRBigEndian,
    ],
    ids=lambda syntax: syntax.name,
)
def test_every_transfer_syntax_gives_equal_values(syntax: UID, tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(-1000, 3000, (64, 48)).astype(np.int16)
    image = ct_dataset(stored)
    if syntax == ExplicitVRBigEndian:
        image.PixelData = stored.astype(">i2").tobytes()
    if syntax.is_encapsulated:
        image.compress(syntax)
    path = written(image, tmp_path / "image.dcm", syntax)
    np.testing.assert_array_equal(decoded(one(path)).images[0].pixels, stored - 1024.0)


def test_four_codings_of_one_real_series_give_equal_values(shared_data: Path, tmp_path: Path) -> None:
    first, *others = (decoded(real_series(shared_data, f"small/{name}", tmp_path), "1") for name in CODINGS)
    for other in others:
        for one_image, other_image in zip(first.images, other.images, strict=True):
            np.testing.assert_array_equal(one_image.pixels, other_image.pixels)


@given(
    stored_bits=st.integers(8, 16),
    spare_bits=st.integers(0, 3),
    signed=st.booleans(),
    rubbish=st.integers(0, 0xFFFF),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_only_the_stored_bits_count(
    tmp_path_factory: pytest.TempPathFactory,
    stored_bits: int,
    spare_bits: int,
    signed: bool,
    rubbish: int,
    seed: int,
) -> None:
    high_bit = min(stored_bits - 1 + spare_bits, 15)
    shift = high_bit + 1 - stored_bits
    low = -(1 << stored_bits - 1) if signed else 0
    wanted = np.random.default_rng(seed).integers(low, low + (1 << stored_bits), (3, 5))
    mask = ((1 << stored_bits) - 1) << shift
    bits = ((wanted << shift) & mask) | (rubbish & ~mask & 0xFFFF)
    image = ct_dataset(bits.astype(np.uint16))
    image.BitsStored, image.HighBit, image.PixelRepresentation = stored_bits, high_bit, int(signed)
    values = values_of(image, tmp_path_factory.mktemp("bits") / "image.dcm")
    np.testing.assert_array_equal(values, wanted - 1024.0)


def test_eight_and_thirty_two_bit_pixels_are_decoded(tmp_path: Path) -> None:
    narrow = np.arange(24, dtype=np.uint8).reshape(4, 6)
    np.testing.assert_array_equal(values_of(ct_dataset(narrow), tmp_path / "8.dcm"), narrow - 1024.0)
    wide = np.full((4, 6), 100_000_001, np.int32)
    image = ct_dataset(wide)
    image.RescaleIntercept = -100_000_000
    np.testing.assert_array_equal(values_of(image, tmp_path / "32.dcm"), 1)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = ct_dataset(np.full((4, 6), 10, np.int16))
    image.RescaleSlope, image.RescaleIntercept = "0.25", "-3.5"
    np.testing.assert_array_equal(values_of(image, tmp_path / "image.dcm"), -1.0)


def test_monochrome1_values_are_not_inverted(tmp_path: Path) -> None:
    image = ct_dataset(np.full((4, 6), 10, np.int16))
    image.PhotometricInterpretation = "MONOCHROME1"
    np.testing.assert_array_equal(values_of(image, tmp_path / "image.dcm"), -1014)


def test_padding_below_air_becomes_air(tmp_path: Path) -> None:
    stored = np.array([[-2000, -1999, 0, 1024]], np.int16)
    image = ct_dataset(stored)
    image.add_new("PixelPaddingValue", "SS", -2000)
    np.testing.assert_array_equal(values_of(image, tmp_path / "1.dcm"), [[AIR_HU, -3023, -1024, 0]])
    image.add_new("PixelPaddingRangeLimit", "SS", -1500)
    np.testing.assert_array_equal(values_of(image, tmp_path / "2.dcm"), [[AIR_HU, AIR_HU, -1024, 0]])


def test_padding_that_is_a_possible_density_stays(tmp_path: Path) -> None:
    image = ct_dataset(np.array([[0, 1024]], np.int16))
    image.add_new("PixelPaddingValue", "SS", 1024)
    np.testing.assert_array_equal(values_of(image, tmp_path / "1.dcm"), [[-1024, 0]])


def test_a_modality_lut_is_looked_up(tmp_path: Path) -> None:
    image = ct_dataset(np.array([[-5, 2, 3, 4, 90]], np.int16))
    del image.RescaleSlope, image.RescaleIntercept
    lut = Dataset()
    lut.add_new("LUTDescriptor", "SS", [3, 2, 16])
    lut.ModalityLUTType = "HU"
    lut.add_new("LUTData", "OW", np.array([100, 200, 60000], np.uint16).tobytes())
    image.ModalityLUTSequence = [lut]
    np.testing.assert_array_equal(values_of(image, tmp_path / "image.dcm"), [[100, 100, 200, 60000, 60000]])


@pytest.mark.parametrize(
    ("changes", "reason", "says"),
    [
        ({"Modality": "MR"}, "not-ct", "Modality (0008,0060) is MR"),
        ({"RescaleType": "US"}, "not-ct", "Rescale Type (0028,1054) is US"),
        ({"RescaleIntercept": None}, "not-ct", "Rescale Intercept (0028,1052) is missing"),
        ({"RescaleSlope": 0}, "undecodable", "Rescale Slope (0028,1053) is 0"),
        ({"Rows": None}, "not-an-image", "has no Rows (0028,0010) (Modality (0008,0060) is CT)"),
        ({"PixelData": None}, "no-pixel-data", "Pixel Data (7FE0,0010) is missing"),
        ({"NumberOfFrames": 2}, "multi-frame", "Number of Frames (0028,0008) is 2; must be 1"),
        ({"SamplesPerPixel": 3}, "colour-image", "Samples per Pixel (0028,0002) is 3"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour-image", "is PALETTE COLOR"),
        ({"BitsAllocated": 64}, "undecodable", "Bits Allocated (0028,0100) is 64"),
        ({"Columns": 7}, "undecodable", "Pixel Data (7FE0,0010) has 48 bytes; 4 x 7 pixels are 56"),
        ({"ImagePositionPatient": None}, "geometry-missing", "Image Position (Patient) (0020,0032) has 0"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "geometry-missing", "right angle"),
        ({"PixelSpacing": None}, "spacing-missing", "Pixel Spacing (0028,0030) has 0 values"),
        ({"PixelSpacing": [0, 1]}, "spacing-missing", "Pixel Spacing (0028,0030) must be above 0"),
    ],
)
def test_what_is_no_ct_image_is_refused_by_name(
    changes: dict[str, Any], reason: str, says: str, tmp_path: Path
) -> None:
    image = ct_dataset()
    for keyword, value in changes.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    error = refusal(image, tmp_path / "image.dcm")
    assert error.reason == reason
    assert says in str(error)
    assert str(error).startswith("image 1 of the series: ")


def test_a_message_never_quotes_text_from_the_file(tmp_path: Path) -> None:
    path = written(ct_dataset(), tmp_path / "image.dcm")
    data = path.read_bytes()
    assert b"-1024.0 " in data
    path.write_bytes(data.replace(b"-1024.0 ", b"Doe^Jane"))
    with pytest.raises(InputRefused, match=r"Rescale Intercept \(0028,1052\) is not a number") as caught:
        decoded(one(path))
    assert "Jane" not in str(caught.value)


def test_a_transfer_syntax_without_a_decoder_is_named(tmp_path: Path) -> None:
    image = ct_dataset(np.zeros((16, 16), np.int16))
    image.compress(RLELossless)
    path = written(image, tmp_path / "image.dcm", MPEG2MPML)
    with pytest.raises(InputRefused, match=r"no decoder for transfer syntax 1\.2\.840\.10008\.1\.2\.4\.100"):
        decoded(one(path))


def test_compressed_rubbish_is_undecodable(tmp_path: Path) -> None:
    image = ct_dataset(np.zeros((16, 16), np.int16))
    image.compress(JPEGLSLossless)
    path = written(image, tmp_path / "image.dcm")
    data = path.read_bytes()
    start = data.index(b"\xff\xd8\xff")
    path.write_bytes(data[: start + 12] + b"\0" * 20 + data[start + 32 :])
    with pytest.raises(InputRefused, match="does not decode as transfer syntax") as caught:
        decoded(one(path))
    assert caught.value.reason == "undecodable"
    path.write_bytes(data[: start + 12])
    with pytest.raises(InputRefused, match="no DICOM data set, or is cut short") as caught:
        decoded(one(path))
    assert caught.value.reason == "undecodable"


def test_without_a_unit_any_grey_image_is_taken(tmp_path: Path) -> None:
    image = ct_dataset()
    image.Modality = "MR"
    del image.RescaleSlope, image.RescaleIntercept
    images = decoded(one(written(image, tmp_path / "image.dcm")), "1").images
    assert images[0].unit == ONE
    np.testing.assert_array_equal(images[0].pixels, np.arange(24).reshape(4, 6))


def test_the_type_says_the_unit() -> None:
    series = ValueType(kind=Kind.SERIES)
    assert DecodeImages().infer([series]) == ValueType(kind=Kind.IMAGES, unit=HU)
    assert DecodeImages(unit="1").infer([series]) == ValueType(kind=Kind.IMAGES, unit=ONE)
    with pytest.raises(PipelineError, match="a series"):
        DecodeImages().infer([ValueType(kind=Kind.IMAGES)])


ODD = {
    "CT_small.dcm": "",
    "ExplVR_BigEndNoMeta.dcm": "not-an-image",
    "ExplVR_LitEndNoMeta.dcm": "not-an-image",
    "J2K_pixelrep_mismatch.dcm": "",
    "JPEG2000-embedded-sequence-delimiter.dcm": "undecodable",
    "JPGExtended.dcm": "undecodable",  # 12-bit lossy JPEG: no permissively licensed decoder takes it
    "MR_small.dcm": "",
    "MR_small_RLE.dcm": "",
    "MR_small_bigendian.dcm": "",
    "MR_small_jp2klossless.dcm": "",
    "MR_small_jpeg_ls_lossless.dcm": "",
    "MR_small_padded.dcm": "",
    "MR_truncated.dcm": "undecodable",
    "SC_rgb_jpeg.dcm": "colour-image",
    "SC_rgb_small_odd.dcm": "colour-image",
    "UN_sequence.dcm": "not-an-image",
    "badVR.dcm": "undecodable",
    "empty_charset_LEI.dcm": "not-an-image",
    "image_dfl.dcm": "geometry-missing",
    "meta_missing_tsyntax.dcm": "not-an-image",
    "nested_priv_SQ.dcm": "not-an-image",
    "no_meta.dcm": "not-an-image",
    "no_meta_group_length.dcm": "not-an-image",
    "priv_SQ.dcm": "not-an-image",
    "reportsi.dcm": "not-an-image",
    "rtdose.dcm": "multi-frame",
    "rtplan_truncated.dcm": "not-an-image",
    "zipMR.gz": "not-an-image",
}


@pytest.mark.parametrize(("name", "reason"), ODD.items())
def test_odd_files_are_decoded_or_refused_by_name(name: str, reason: str, shared_data: Path) -> None:
    path = shared_data / "dicom" / "odd" / name
    if reason:
        with pytest.raises(InputRefused) as caught:
            decoded(one(path), "1")
        assert caught.value.reason == reason
        return
    with quiet():
        image = dcmread(path)
        image.convert_pixel_data()
    expected = image.pixel_array * float(image.get("RescaleSlope", 1)) + float(
        image.get("RescaleIntercept", 0)
    )
    np.testing.assert_array_equal(decoded(one(path), "1").images[0].pixels, expected)


def test_every_odd_file_is_known(shared_data: Path) -> None:
    assert {path.name for path in (shared_data / "dicom" / "odd").iterdir()} == set(ODD)


def test_a_multi_frame_object_is_refused(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="is 8; must be 1") as caught:
        decoded(real_series(shared_data, "small/mr-philips-enhanced", tmp_path), "1")
    assert caught.value.reason == "multi-frame"


def test_a_missing_file_is_not_the_inputs_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DecodeImages().apply([one(tmp_path / "absent.dcm")], CONTEXT)
