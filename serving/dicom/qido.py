"""QIDO-RS: search for studies, series and instances (PS3.18 10.6), answered from the journal."""

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request, Response

from serving.dicom import queries
from serving.dicom.queries import Found, Level, Search
from serving.dicom.web_services import (
    PREFIX,
    DicomJson,
    DicomWebServices,
    Element,
    base_url,
    checked_uids,
    element,
    json_answer,
)
from serving.errors import BadRequest

MAX_LIMIT = 1000
"""Results of one search; a client pages for more (PS3.18 8.3.4.4 lets us)."""
_OURS = frozenset({"limit", "offset", "includefield", "fuzzymatching"})


def qido_router(services: DicomWebServices) -> APIRouter:
    """The Search transaction."""
    router = APIRouter(prefix=PREFIX)

    async def answer(request: Request, level: Level, **uids: str | None) -> Response:
        tenant = services.tenant_of(request)
        checked_uids(**uids)
        search = _search(request, level, uids)
        found = await services.database.read(partial(queries.run, tenant=tenant, search=search))
        return json_answer([_as_json(one, search, base_url(request)) for one in found])

    @router.get("/studies")
    async def studies(request: Request) -> Response:
        """Studies, the newest first."""
        return await answer(request, Level.STUDY)

    @router.get("/series")
    async def all_series(request: Request) -> Response:
        """Series of all studies."""
        return await answer(request, Level.SERIES)

    @router.get("/instances")
    async def all_instances(request: Request) -> Response:
        """Instances of all studies."""
        return await answer(request, Level.INSTANCE)

    @router.get("/studies/{study}/series")
    async def series_of(request: Request, study: str) -> Response:
        """Series of one study."""
        return await answer(request, Level.SERIES, StudyInstanceUID=study)

    @router.get("/studies/{study}/instances")
    async def instances_of_study(request: Request, study: str) -> Response:
        """Instances of one study."""
        return await answer(request, Level.INSTANCE, StudyInstanceUID=study)

    @router.get("/studies/{study}/series/{series}/instances")
    async def instances_of_series(request: Request, study: str, series: str) -> Response:
        """Instances of one series."""
        return await answer(request, Level.INSTANCE, StudyInstanceUID=study, SeriesInstanceUID=series)

    return router


def _search(request: Request, level: Level, uids: dict[str, str | None]) -> Search:
    """Read the query string. Raises: BadRequest for a parameter that is not known."""
    query = request.query_params
    matches = {keyword: uid for keyword, uid in uids.items() if uid is not None}
    for name, value in query.multi_items():
        if name not in _OURS and value:
            matches[_keyword(name)] = value
    include = [field for value in query.getlist("includefield") for field in value.split(",") if field]
    return Search(
        level=level,
        matches=matches,
        include=frozenset(_keyword(field) for field in include if field.lower() != "all"),
        include_all=any(field.lower() == "all" for field in include),
        limit=min(_number(query.get("limit", ""), MAX_LIMIT), MAX_LIMIT),
        offset=_number(query.get("offset", ""), 0),
    )


def _keyword(name: str) -> str:
    """A keyword as it is, or the keyword of a tag of eight hexadecimal digits. Raises: BadRequest."""
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    if tag_for_keyword(name) is not None:
        return name
    try:
        keyword = keyword_for_tag(int(name, 16)) if len(name) == 8 else ""
    except ValueError:
        keyword = ""
    if not keyword:
        raise BadRequest(f"The query has a parameter that is no attribute: '{name[:64]}'.")
    return keyword


def _number(text: str, default: int) -> int:
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise BadRequest("limit and offset are whole numbers that are not negative.")
    return int(text)


def _as_json(found: Found, search: Search, base: str) -> DicomJson:
    keywords = [*search.level.returned, *(k for k in search.include if k not in search.level.returned)]
    if search.include_all:
        keywords = list(dict.fromkeys([*keywords, *found]))
    answer = {_tag(keyword): _attribute(keyword, found.get(keyword, "")) for keyword in keywords}
    url = f"{base}/studies/{found['StudyInstanceUID']}"
    if search.level is not Level.STUDY:
        url += f"/series/{found['SeriesInstanceUID']}"
    if search.level is Level.INSTANCE:
        url += f"/instances/{found['SOPInstanceUID']}"
    answer["00081190"] = element("UR", url)
    return dict(sorted(answer.items()))


def _tag(keyword: str) -> str:
    from pydicom.datadict import tag_for_keyword

    return f"{tag_for_keyword(keyword) or 0:08X}"


def _attribute(keyword: str, text: str) -> Element:
    """Text of an attribute in the DICOM JSON model; a number that is none is left out."""
    from pydicom.datadict import dictionary_VR

    vr = dictionary_VR(keyword)
    values = text.split("\\") if text else []
    if vr == "PN":
        return element(vr, *(_person(value) for value in values))
    if vr in ("IS", "US", "UL", "SS", "SL"):
        return element(vr, *_numbers(values, int))
    if vr in ("DS", "FL", "FD"):
        return element(vr, *_numbers(values, float))
    return element(vr, *values)


def _person(value: str) -> dict[str, str]:
    groups = ("Alphabetic", "Ideographic", "Phonetic")
    return {name: part for name, part in zip(groups, value.split("="), strict=False) if part}


def _numbers(values: Sequence[str], kind: type[int] | type[float]) -> list[int | float]:
    try:
        return [kind(value) for value in values]
    except ValueError:
        return []
