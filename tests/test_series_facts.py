"""What headers tell of a series: facts for the contract, an identity, and whether it is one series at all."""

from dataclasses import replace

import pytest

from serving.jobs.instances import InstanceRow
from serving.series_facts import facts_of, input_digest, litres_of, mixture_of, series_of, voxels_of


def image(number: int, z_mm: float = 0.0, **attributes: str) -> InstanceRow:
    given = {
        "Modality": "CT",
        "Rows": "4",
        "Columns": "5",
        "PixelSpacing": "0.5\\0.6",
        "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
        "ImagePositionPatient": f"0\\0\\{z_mm}",
    }
    return InstanceRow(
        tenant="local",
        sop_instance_uid=f"1.2.{number}",
        study_instance_uid="1.1",
        series_instance_uid="1.2",
        sop_class_uid="1.3",
        transfer_syntax_uid="1.4",
        path=f"{number}.dcm",
        digest=f"digest {number}",
        size=1,
        attributes=given | attributes,
        patient={"PatientID": "P"},
        kind="received",
    )


SERIES = [image(n, z_mm=2.5 * n) for n in (3, 1, 2)]


def test_facts_are_those_of_the_headers() -> None:
    facts = facts_of(SERIES)
    assert (facts.modality, facts.images, facts.rows, facts.columns) == ("CT", 3, 4, 5)
    assert facts.pixel_spacing_mm == (0.5, 0.6)
    assert facts.slice_spacing_mm == pytest.approx(2.5)
    assert voxels_of(SERIES) == 60


def test_litres_are_the_space_that_the_voxels_fill_where_the_headers_tell() -> None:
    assert litres_of(SERIES) == pytest.approx(60 * 2.5 * 0.5 * 0.6 * 1e-6)
    assert litres_of(SERIES[:1]) is None
    assert litres_of([image(n, z_mm=n, PixelSpacing="") for n in (1, 2)]) is None


def test_the_largest_image_is_what_a_contract_judges() -> None:
    assert facts_of([*SERIES, image(4, Rows="9000")]).rows == 9000


@pytest.mark.parametrize("bad", ["", "x", "1\\2", "nan"])
def test_unreadable_numbers_are_unknown_rather_than_an_error(bad: str) -> None:
    odd = [image(n, Rows=bad, PixelSpacing=bad, ImageOrientationPatient=bad) for n in (1, 2)]
    assert facts_of(odd).rows is None
    assert facts_of(odd).slice_spacing_mm is None


def test_an_input_is_named_by_its_images_in_any_order() -> None:
    assert input_digest(series_of(SERIES)) == input_digest(series_of(SERIES[::-1]))
    assert input_digest(series_of(SERIES)) != input_digest(series_of(SERIES[:2]))
    changed = replace(SERIES[0], digest="other bytes")
    assert input_digest(series_of([changed, *SERIES[1:]])) != input_digest(series_of(SERIES))


def test_two_patients_or_two_studies_are_not_one_series() -> None:
    assert mixture_of(SERIES) is None
    study = [*SERIES, replace(image(4), study_instance_uid="1.9")]
    patient = [*SERIES, replace(image(4), patient={"PatientID": "Secret"})]
    for images, reason in ((study, "study-mixed"), (patient, "patient-mixed")):
        mixture = mixture_of(images)
        assert mixture is not None
        assert mixture[0] == reason
        assert "Secret" not in mixture[1]
