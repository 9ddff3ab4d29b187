"""Whose gates decide how networks run, and whether the networks of a plan were judged together.

Plans that nobody is served by do not slow down those that somebody is: what was only compiled is judged when
it is promoted. And small errors of several networks may add up: what each passed by itself is used for
several networks of a plan only where its masks passed with just these ways.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from planner.canonical import identity
from planner.networks.records import BoundNetwork, Gated
from planner.networks.tuned import Gates


def deciding(users: Mapping[str, Sequence[str]], served: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Of each network's users those whose gates decide: the plans that are served, or all where none is.

    users: by network, the plans that run it. served: plans that tenants run, or are about to.
    """
    return {
        network: tuple(plan for plan in plans if plan in served) or tuple(plans)
        for network, plans in users.items()
    }


def together_on(builds: Mapping[str, str]) -> str:
    """The identity of several networks (digests) running on these builds: what Gates.together holds."""
    return identity(dict(builds))


def judged_together(
    bound: Mapping[str, BoundNetwork],
    users: Mapping[str, Sequence[str]],
    gates: Mapping[tuple[str, str], Gates],
) -> dict[str, BoundNetwork]:
    """The same, where each plan has passed with all of its networks as they are bound.

    users: by network, the plans whose gates decide. gates: by plan and network. Of a plan that was not judged
    so, the network that saves most keeps its way; the others run in fp32, and say by whom they are unjudged.
    """
    found = dict(bound)
    plans: dict[str, list[str]] = {}
    for network, one in found.items():
        for plan in users[network] if _is_faster(one) else ():
            plans.setdefault(plan, []).append(network)
    several = {plan: networks for plan, networks in sorted(plans.items()) if len(networks) > 1}
    while any(_kept_to_one(found, plan, networks, gates) for plan, networks in several.items()):
        pass  # what one plan takes back may leave another with networks that it was not judged with
    return found


def _kept_to_one(
    found: dict[str, BoundNetwork],
    plan: str,
    networks: Sequence[str],
    gates: Mapping[tuple[str, str], Gates],
) -> bool:
    """Whether ways were taken back in `found`, as the plan was not judged with them."""
    faster = [network for network in networks if _is_faster(found[network])]
    asked = together_on({network: found[network].choices[0].build for network in faster})
    judged = [gates.get((plan, network)) for network in faster]
    if len(faster) < 2 or all(one is not None and one.together == asked for one in judged):
        return False
    best = max(faster, key=lambda network: (_saved_s(found[network].choices[0]), network))
    for network in faster:
        if network != best:
            one = found[network]
            found[network] = msgspec.structs.replace(
                one, choices=one.choices[-1:], unjudged=tuple(sorted({*one.unjudged, plan}))
            )
    return True


def _is_faster(bound: BoundNetwork) -> bool:
    """Whether it runs in another way than plain fp32, its last choice."""
    return len(bound.choices) > 1


def _saved_s(way: Gated) -> float:
    """Of one run, against plain fp32, as measured when the way was found."""
    return float(way.figures.get("baseline_seconds", 0.0)) - float(way.figures.get("seconds", 0.0))
