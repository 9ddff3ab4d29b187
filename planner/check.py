"""Golden cases: run a plan on inputs whose answer is known, here and now, and record how it went.

Each case has bounds of memory and time (planner.golden_apart); one that does not keep within them is no case
that failed, which would be recorded, but ends the check: the next one would take as long again.
"""

import io
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np

from models.errors import InputRefused
from models.golden import ExpectedOutput, GoldenCase, golden_case
from models.operators.base import KernelContext
from models.values import LabelMap, Measurements, Series, Value
from object_store.digest import Digest
from object_store.opening import Store
from planner.binding import Binding, stored_binding
from planner.canonical import canonical_json
from planner.errors import Unreadable
from planner.execute import OperatorFrom, operator_of, run_plan
from planner.golden_apart import case_apart, resources_of
from planner.machine import machine_id
from planner.names import BINDING, check_name
from planner.networks.apart_child import Bounds
from planner.networks.joint import networks_of
from planner.overlap import Truth, dice
from planner.plan import Plan, PlannedOutput
from planner.stored_series import materialised
from planner.told import told


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One number that a case expects. `required` says what would have passed."""

    case: str
    output: str
    what: str
    measured: float | None
    required: str
    passed: bool

    def __str__(self) -> str:
        measured = "nothing" if self.measured is None else f"{self.measured:.4g}"
        return f"{self.case}: {self.output}: {self.what} is {measured}, must be {self.required}"


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a plan did on its golden cases on one machine model, under one binding.

    ways: what of the binding decides the plan's results (Binding.ways_of).
    """

    pipeline: str
    plan: str
    binding: str
    machine: str
    findings: tuple[Finding, ...]
    ways: str = ""

    @property
    def passed(self) -> bool:
        """True if every number is as it must be; a plan without golden cases has nothing to fail."""
        return all(finding.passed for finding in self.findings)

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(str(finding) for finding in self.findings if not finding.passed)


Checked = Callable[[str], None]
"""Called with a case's title when it is done, for progress."""


def check_plan(
    store: Store,
    digest: Digest,
    plan: Plan,
    operators: OperatorFrom = operator_of,
    checked: Checked = lambda title: None,
    bounds: Bounds | None = None,
) -> CheckReport:
    """Run every golden case of the plan as the store's binding says, and record the report in the store.

    operators: must be picklable. bounds: of one case; default: those of planner.golden_apart.
    Raises: NotChecked, naming case, step and bound, where a case had to be stopped; KernelError; StoreError.
    """
    binding, bound = _bound(store)
    how = bound.to_bytes() if bound else b""
    findings: list[Finding] = []
    for fields in plan.golden:
        case = golden_case(fields)
        findings += _check_case(store, plan, case, operators, how, bounds)
        checked(case.title)
    report = CheckReport(
        pipeline=plan.pipeline,
        plan=str(digest),
        binding=binding,
        machine=machine_id(),
        findings=tuple(findings),
        ways=_ways(bound, plan),
    )
    stored = store.objects.put(canonical_json(msgspec.to_builtins(report)))
    store.names.set(check_name(report.machine, digest.sha256), stored)
    return report


def recorded_check(store: Store, digest: Digest, plan: Plan) -> CheckReport | None:
    """The last report of this plan on this machine model, if its networks run now as they ran then."""
    stored = store.names.get(check_name(machine_id(), digest.sha256))
    if stored is None:
        return None
    report = msgspec.json.decode(store.objects.get(stored), type=CheckReport)
    return report if report.ways == _ways(_bound(store)[1], plan) else None


def _bound(store: Store) -> tuple[str, Binding | None]:
    """The present binding and its digest; none where nothing is bound that this version can read."""
    digest = store.names.get(BINDING)
    try:
        return ("", None) if digest is None else (str(digest), stored_binding(store, digest))
    except Unreadable:
        return "", None


def _ways(bound: Binding | None, plan: Plan) -> str:
    if bound is None:
        return ""
    networks = (graph for node in plan.nodes for graph in networks_of(node))
    return bound.ways_of(networks, (node.id for node in plan.nodes))


def _check_case(
    store: Store,
    plan: Plan,
    case: GoldenCase,
    operators: OperatorFrom,
    binding: bytes,
    bounds: Bounds | None,
) -> list[Finding]:
    outputs = {output.name: output for output in plan.outputs}
    with tempfile.TemporaryDirectory(prefix="lightbox-check-") as folder:
        series, truth = case_series(store, case, Path(folder))
        how = (store.objects.root, binding, operators)
        try:
            values = case_apart(_computed, plan, case.title, series, *how, bounds=bounds)
        except InputRefused as refused:
            return [_refused(case, refused)]
    findings = []
    for expected in case.expect:
        findings += _check_output(store, case, expected, outputs[expected.output], values, truth)
    return findings


def _computed(
    plan: Plan, series: Series, store: Path, binding: bytes, operators: OperatorFrom
) -> dict[str, Value]:
    """Masks and measurements of all outputs, by node."""
    wanted = [n for o in plan.outputs for n in (o.mask, o.measurements) if n is not None]
    context = KernelContext(resources=resources_of(store, binding))
    return run_plan(plan, series, context, tuple(dict.fromkeys(wanted)), told(operators))


def case_series(store: Store, case: GoldenCase, folder: Path) -> tuple[Series, Truth | None]:
    """The input of a case as files in `folder`, and a phantom's truth."""
    if case.input is not None:
        return materialised(store, Digest.parse(case.input), folder), None
    assert case.phantom is not None
    from models.phantom import make_phantom, phantom_series

    truth = make_phantom(case.phantom).truth
    series = phantom_series(case.phantom, folder)
    return series, Truth(truth.labels, truth.segments, truth.affine)


def _check_output(
    store: Store,
    case: GoldenCase,
    expected: ExpectedOutput,
    output: PlannedOutput,
    values: Mapping[str, Value],
    truth: Truth | None,
) -> list[Finding]:
    findings = []
    if expected.label_map is not None:
        data = io.BytesIO(store.objects.get(Digest.parse(expected.label_map)))
        labels = np.load(data, allow_pickle=False)
        truth = Truth(labels, tuple(s.name for s in output.segments), None)
    mask = values[output.mask]
    assert isinstance(mask, LabelMap)
    for segment, least in expected.dice:
        parts = dict(expected.truth).get(segment, (segment,))
        assert truth is not None  # `check` saw to it when the pipeline was read
        found = dice(mask, segment, truth, parts)
        passed = found is not None and found >= least
        findings.append(_finding(case, output, f"Dice of {segment}", found, f"at least {least:g}", passed))
    if expected.measurements:
        assert output.measurements is not None
        measured = values[output.measurements]
        assert isinstance(measured, Measurements)
        by_name = {f"{m.segment} {m.quantity}": m for m in measured.items}
        for name, wanted in expected.measurements:
            value = by_name[name].value if name in by_name else None
            passed = value is not None and abs(value - wanted.value) <= wanted.tolerance
            required = f"{wanted.value:g} within {wanted.tolerance:g}"
            findings.append(_finding(case, output, name, value, required, passed))
    return findings


def _finding(
    case: GoldenCase, output: PlannedOutput, what: str, value: float | None, required: str, passed: bool
) -> Finding:
    finite = value is not None and math.isfinite(value)
    return Finding(
        case=case.title,
        output=output.name,
        what=what,
        measured=value if finite else None,
        required=required,
        passed=passed,
    )


def _refused(case: GoldenCase, refused: InputRefused) -> Finding:
    return Finding(
        case=case.title,
        output="",
        what=f"the input ({refused.reason})",
        measured=None,
        required="accepted",
        passed=False,
    )
