"""Which promoted pipelines a series is given to, and why. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from models.messages import code_in_message
from serving.config import Route


@dataclass(frozen=True, slots=True)
class Routing:
    """The pipelines, in order of name, and one sentence on how that came about (no patient data)."""

    pipelines: tuple[str, ...]
    reason: str


def match_routes(
    attributes: Mapping[str, str], tenant: str, promoted: Sequence[str], routes: Sequence[Route]
) -> Routing:
    """Match the attributes of a series (keyword -> text) against the tenant's routes.

    Every matching route adds its pipelines. Conditions are shell patterns without regard to case; an
    attribute that is absent is matched as the empty text.
    """
    own = [route for route in routes if route.tenant == tenant]
    matching = [route for route in own if _matches(route, attributes)]
    modality = code_in_message(attributes.get("Modality", ""))
    if not promoted:
        return Routing((), f"no pipeline is promoted for tenant '{tenant}'")
    if not own:
        return Routing((), f"tenant '{tenant}' has no routes")
    if not matching:
        return Routing((), f"no route of tenant '{tenant}' matches: Modality (0008,0060) is {modality}")
    patterns = [pattern for route in matching for pattern in route.pipelines]
    chosen = tuple(
        name for name in sorted(promoted) if any(fnmatchcase(name, pattern) for pattern in patterns)
    )
    if not chosen:
        return Routing((), f"the matching routes of tenant '{tenant}' name no promoted pipeline")
    return Routing(chosen, f"{len(matching)} of {len(own)} routes match")


def _matches(route: Route, attributes: Mapping[str, str]) -> bool:
    return all(
        fnmatchcase(attributes.get(keyword, "").casefold(), pattern.casefold())
        for keyword, pattern in route.when.items()
    )
