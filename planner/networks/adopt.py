"""A pipeline's network files become networks of the store: opened, kept once, named by what they are."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from models.errors import PipelineError
from models.operators.network import Network
from object_store.digest import Digest
from object_store.opening import Store
from planner.networks.errors import NetworkRefused, NotOpenable, said_inputs
from planner.networks.families.admit import admitted
from planner.networks.fits import misfit
from planner.networks.structure import Opened
from planner.resources import read_arrays

Array = NDArray[Any]

log = logging.getLogger(__name__)

NOT_OPENED = "not-opened"
"""The tag of a graph that stays opaque; its value says why."""


def adopted(store: Store, step: str, network: Network) -> Network:
    """The operator with digests in place of its files.

    graph, variant: paths, or digests of what is in the store. An opened network is one digest, its variant's
    numbers included, and is fed by place (`x0`); one that cannot be opened, or that would compute something
    else then, keeps graph and variant apart.
    Raises: PipelineError naming file and key, also where the planner's extra is missing; StoreError. Takes a
    `turn` of the store, as registering does.
    """
    if network.graph.startswith("sha256:"):
        return _kept_as_files(store, network)
    overrides = _overrides(step, network)
    try:
        opened = _opened(step, network, overrides)
        fed = _fed_input(step, network, opened)
        digest = admitted(store, Path(network.graph), opened, overrides).network
    except NetworkRefused as refused:
        of_variant = refused.reason in ("unknown-tensor", "wrong-shape")
        key = f"steps.{step}.{'variant' if of_variant else 'graph'}"
        raise PipelineError(str(refused), key=key) from refused
    except NotOpenable as reason:
        log.info("step %s: %s stays opaque: %s", step, Path(network.graph).name, reason)
        opaque = _kept_as_files(store, network)
        store.names.tag(Digest.parse(opaque.graph), NOT_OPENED, str(reason))
        return opaque
    return dataclasses.replace(network, graph=str(digest), variant="", input=fed)


def why_opaque(store: Store, graph: str) -> str:
    """Why the planner cannot see into this graph; empty for an opened network."""
    return store.names.tags(Digest.parse(graph)).get(NOT_OPENED, "")


def _overrides(step: str, network: Network) -> Mapping[str, Array] | None:
    """The variant's arrays; None if there is no variant."""
    if not network.variant:
        return None
    try:
        with open(network.variant, "rb") as file:
            return read_arrays(file.read())
    except (ValueError, EOFError) as error:
        raise PipelineError(
            f"{Path(network.variant).name} is no .npz of arrays", key=f"steps.{step}.variant"
        ) from error


def _opened(step: str, network: Network, overrides: Mapping[str, Array] | None) -> Opened:
    try:
        from planner.networks.reading.opening import open_network
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "onnx":
            raise
        raise PipelineError(
            "opening networks needs the package onnx: pip install -e '.[planner]' in Lightbox's folder",
            key=f"steps.{step}.graph",
        ) from error
    return open_network(Path(network.graph), overrides)


def _fed_input(step: str, network: Network, opened: Opened) -> str:
    names = opened.input_names
    if network.input not in names:
        raise PipelineError(
            f"the graph has no input '{network.input}', but {said_inputs(names)}", key=f"steps.{step}.input"
        )
    if len(names) > 1:
        raise PipelineError(
            f"the graph needs {said_inputs(names)}, and a network step feeds one input",
            key=f"steps.{step}.graph",
        )
    outputs = len(opened.output_names)
    if network.output >= outputs:
        raise PipelineError(
            f"the graph has {outputs} outputs, and no number {network.output}", key=f"steps.{step}.output"
        )
    if found := misfit(network, opened):
        setting, sentence = found
        raise PipelineError(sentence, key=f"steps.{step}.{setting}")
    return f"x{names.index(network.input)}"


def _kept_as_files(store: Store, network: Network) -> Network:
    variant = str(_stored(store, network.variant)) if network.variant else ""
    return dataclasses.replace(network, graph=str(_stored(store, network.graph)), variant=variant)


def _stored(store: Store, path_or_digest: str) -> Digest:
    if path_or_digest.startswith("sha256:"):
        return Digest.parse(path_or_digest)
    return store.objects.put_file(Path(path_or_digest))
