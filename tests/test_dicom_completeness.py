"""When a series is complete, and which pipelines take it: both pure, time an argument."""

import random

import pytest

from serving.config import Completeness, Route
from serving.dicom.completeness import SeriesWatch, plane_of
from serving.dicom.routing import match_routes

SETTINGS = Completeness(quiet_s=1.0, timeout_s=60.0)
AXIAL = "1\\0\\0\\0\\1\\0"
CORONAL = "1\\0\\0\\0\\0\\-1"


def place(z: float, orientation: str = AXIAL) -> dict[str, str]:
    x_y_z = f"0\\0\\{z}" if orientation == AXIAL else f"0\\{z}\\0"
    return {"ImagePositionPatient": x_y_z, "ImageOrientationPatient": orientation}


def watched(*attributes: dict[str, str]) -> SeriesWatch:
    """A series whose images came by one association, one every 0.1 s from 0 on."""
    watch = SeriesWatch(SETTINGS, 0.0)
    for number, image in enumerate(attributes):
        watch.image_arrived(f"1.{number}", image, "a", number / 10)
    return watch


def test_a_series_without_a_gap_is_complete_a_quiet_time_after_its_sender_closed() -> None:
    watch = watched(*(place(2.5 * n) for n in range(10)))
    assert watch.complete(30.0) is None
    watch.association_closed("a", 30.0)
    assert watch.complete(30.9) is None
    assert watch.complete(31.0) == "sender-closed"


def test_an_image_in_the_quiet_time_starts_it_again() -> None:
    watch = watched(place(0), place(1))
    watch.association_closed("a", 1.0)
    watch.image_arrived("2", place(2), "b", 1.5)
    assert watch.complete(5.0) is None
    watch.association_closed("b", 5.0)
    assert watch.complete(6.0) == "sender-closed"


def test_it_is_not_complete_while_one_of_two_senders_is_open() -> None:
    watch = watched(place(0), place(1))
    watch.image_arrived("2", place(2), "b", 0.5)
    watch.association_closed("a", 1.0)
    assert watch.complete(10.0) is None
    watch.association_closed("b", 10.0)
    assert watch.complete(11.0) == "sender-closed"


@pytest.mark.parametrize("places", [(0, 5, 10, 20), (0, 1, 2, 3, 6, 7), (0, 2.5, 7.5, 10.001, 12.5)])
def test_a_missing_slice_waits_for_the_timeout(places: tuple[float, ...]) -> None:
    watch = watched(*(place(z) for z in places))
    watch.association_closed("a", 1.0)
    assert watch.complete(50.0) is None
    assert watch.complete(61.0) == "timeout"


@pytest.mark.parametrize(
    "images",
    [
        [place(4.0 * n) for n in range(14)] + [place(53.1 + 7.0 * n) for n in range(14)],  # spacing made so
        [place(0), place(5), place(0, CORONAL), place(100, CORONAL)],  # a localizer
        [place(0)] * 5 + [place(3)] * 5 + [place(6)] * 5,  # several images at each place
        [{"Modality": "CR"}] * 2,  # no geometry
        [place(1.0)],
        [{"ImagePositionPatient": "none", "ImageOrientationPatient": AXIAL}],
    ],
    ids=["two spacings", "two orientations", "over time", "no geometry", "one image", "unreadable"],
)
def test_what_only_looks_like_a_gap_does_not_wait(images: list[dict[str, str]]) -> None:
    watch = watched(*images)
    watch.association_closed("a", 3.0)
    assert watch.complete(4.0) == "sender-closed"


HOSTILE = ("inf", "-inf", "nan", "1e400", "1e308", "-1e308", "1e-320", "1e7", "", "x", "0", "1", "-1", "2.5")


@pytest.mark.parametrize("position", ["0\\0\\inf", "0\\0\\nan", "1e400\\0\\0", "0\\0\\-1e308"])
@pytest.mark.parametrize("orientation", [AXIAL, "1\\0\\0\\0\\nan\\0", "1e200\\0\\0\\0\\1e200\\0"])
def test_a_place_that_can_be_none_is_none(position: str, orientation: str) -> None:
    assert plane_of({"ImagePositionPatient": position, "ImageOrientationPatient": orientation}) is None


def test_no_position_or_orientation_whatever_stops_the_watching() -> None:
    draw = random.Random(2)
    for _ in range(3000):
        images = [
            {
                "ImagePositionPatient": "\\".join(draw.choices(HOSTILE, k=3)),
                "ImageOrientationPatient": draw.choice([AXIAL, "\\".join(draw.choices(HOSTILE, k=6))]),
            }
            for _ in range(4)
        ]
        watch = watched(*images)
        watch.association_closed("a", 1.0)
        assert watch.complete(61.0) == "timeout"
        watch.complete(30.0)


def test_a_sender_that_never_closes_is_waited_for_until_the_timeout() -> None:
    watch = watched(place(0), place(1))
    assert watch.complete(60.0) is None
    assert watch.complete(60.1) == "timeout"


def routed(attributes: dict[str, str], *routes: Route, tenant: str = "local") -> tuple[tuple[str, ...], str]:
    routing = match_routes(attributes, tenant, ("ct-lungs", "ct-bones", "mr-brain"), routes)
    return routing.pipelines, routing.reason


def test_every_matching_route_adds_its_pipelines() -> None:
    chest = Route(pipelines=("ct-lungs",), when={"Modality": "CT", "BodyPartExamined": "*chest*"})
    ct = Route(pipelines=("ct-*",), when={"Modality": "CT"})
    assert routed({"Modality": "CT", "BodyPartExamined": "CHEST"}, chest)[0] == ("ct-lungs",)
    assert routed({"Modality": "CT", "BodyPartExamined": "HEAD"}, chest)[0] == ()
    assert routed({"Modality": "CT", "BodyPartExamined": "CHEST"}, chest, ct)[0] == ("ct-bones", "ct-lungs")
    assert routed({}, Route(when={}))[0] == ("ct-bones", "ct-lungs", "mr-brain")


def test_a_route_of_another_tenant_does_not_count() -> None:
    pipelines, reason = routed({"Modality": "CT"}, Route(tenant="north"))
    assert pipelines == ()
    assert reason == "tenant 'local' has no routes"


def test_why_nothing_takes_a_series_is_said() -> None:
    assert "Modality (0008,0060) is MR" in routed({"Modality": "MR"}, Route())[1]
    for hostile in ("MR\nroot: all is well", "M" * 65536, "Doe^Jane", "\x1b[2J"):
        assert routed({"Modality": hostile}, Route())[1].endswith("Modality (0008,0060) is not a code")
    assert "no promoted pipeline" in routed({"Modality": "CT"}, Route(pipelines=("none",)))[1]
    assert "no pipeline is promoted" in match_routes({"Modality": "CT"}, "local", (), (Route(),)).reason
