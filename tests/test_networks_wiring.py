"""From a pipeline's ONNX file to a served answer: opened, named, bound, proven, run, forgotten."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from loadtest.server import lightbox, lightbox_command
from models.engines.registry import engine_available
from models.errors import PipelineError
from models.operators.base import KernelContext, Resources
from models.operators.network import Network
from models.pipeline import Gate, Pipeline
from models.pipeline_file import pipeline_path, read_pipeline
from models.values import ONE, ProbabilityMap, Volume
from object_store.collect import collect_garbage
from object_store.digest import Digest
from object_store.errors import ObjectMissing
from object_store.opening import Store, open_store
from planner.bind import bind, without_measuring
from planner.binding import Binding
from planner.compile import Compiled, compile_pipelines
from planner.live import compiled_plan, current_binding
from planner.names import plan_name, variant_name
from planner.networks import bind as bind_module
from planner.networks.adopt import why_opaque
from planner.networks.errors import NotOpenable
from planner.networks.families.known import add_network, forget_networks, known_networks
from planner.networks.families.members import families, variants
from planner.networks.joint import networks_of
from planner.networks.keeping import NetworkReader
from planner.networks.records import Build, Family
from planner.networks.structure import Opened
from planner.plan import Plan, read_plan
from planner.promote import promote
from planner.references import references
from planner.resources import StoreResources
from planner.ways import fallbacks, said_ways
from tests.conftest import absent
from tests.networks import image, largest_difference, low_rank_variant, private_variant, run, unet

SITES = ("low-dose", "sharp-kernel", "smooth-kernel", "thick-slices")
ZOO_NETS = ("ct-lungs-net", *(f"ct-lungs-net-{site}" for site in SITES))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store", verify_on_read=True) as opened:
        yield opened


def saved(folder: Path, model: onnx.ModelProto, name: str = "net") -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def with_network(path: Path, name: str = "net", **changes: Any) -> Pipeline:
    """The bundled network's pipeline with another network in it."""
    base = read_pipeline(pipeline_path("ct-lungs-net"))
    steps = tuple(
        replace(step, operator=replace(step.operator, graph=str(path), **changes))
        if isinstance(step.operator, Network)
        else step
        for step in base.steps
    )
    return replace(base, name=name, steps=steps)


def compiled(store: Store, *pipelines: Pipeline) -> tuple[Compiled, ...]:
    return compile_pipelines(store, pipelines, costing=without_measuring)


def promoted(store: Store, pipeline: str, gate: Any = None) -> None:
    promote(store, "local", pipeline, gate=gate, binder=partial(bind, costing=without_measuring))


def network_in(plan: Plan) -> str:
    (graph,) = {graph for node in plan.nodes for graph in networks_of(node)}
    return graph


def binding_of(store: Store) -> Binding:
    current = current_binding(store)
    assert current is not None
    return current[1]


def answers(resources: Resources, graph: str, model: onnx.ModelProto, size: int = 32) -> list[Any]:
    (feed,) = image(model, 5, size=size).values()
    return list(resources.network(graph).run({"x0": feed}))


def expected(model: onnx.ModelProto, size: int = 32) -> list[Any]:
    return list(run(model, image(model, 5, size=size)))


# -- compiling ---------------------------------------------------------------------------------------------


def test_the_bundled_network_and_its_variants_are_one_family_one_build_and_one_session(store: Store) -> None:
    done = compiled(store, *(read_pipeline(pipeline_path(name)) for name in ZOO_NETS))
    bound = binding_of(store).networks
    assert len(families(store)) == 1
    assert bound.keys() == {network_in(one.plan) for one in done}
    assert len(bound) == len(ZOO_NETS)
    assert len({choice.build for network in bound.values() for choice in network.choices}) == 1
    resources = StoreResources(store.objects.root).under(binding_of(store))
    sessions = {id(resources.network(graph).compiled) for graph in bound}  # type: ignore[attr-defined]
    assert len(sessions) == 1


def test_every_bundled_network_computes_what_its_authored_files_do(store: Store) -> None:
    done = compiled(store, *(read_pipeline(pipeline_path(name)) for name in ZOO_NETS))
    resources = StoreResources(store.objects.root)
    fed = np.random.default_rng(3).random((2, 1, 64, 96), np.float32)
    from models.engines.onnxruntime import OnnxSession

    for one in done:
        operator = next(
            s.operator
            for s in read_pipeline(pipeline_path(one.plan.pipeline)).steps
            if isinstance(s.operator, Network)
        )
        authored = OnnxSession(Path(operator.graph).read_bytes())
        own = dict(np.load(operator.variant)) if operator.variant else {}
        wanted = authored.run({"input": fed, **own})
        for under in (resources.under(binding_of(store)), resources):
            ours = under.network(network_in(one.plan)).run({"x0": fed})
            assert largest_difference(ours, wanted) <= 1e-5, one.plan.pipeline


def test_plans_are_equal_in_any_order_and_in_any_store(tmp_path: Path) -> None:
    models = {"a": unet(3), "b": unet(3, norm_seed=7), "c": unet(3, norm="folded", norm_seed=8), "d": unet(4)}
    pipelines = {name: with_network(saved(tmp_path, model, name), name) for name, model in models.items()}
    seen = set()
    for number, order in enumerate(itertools.permutations("abcd")):
        if number % 5:  # five of the orders; each begins the family with another network
            continue
        with open_store(tmp_path / f"store-{number}") as opened:
            for name in order:
                compiled(opened, pipelines[name])
            seen.add(tuple(str(compiled_plan(opened, name)[0]) for name in "abcd"))
    assert len(seen) == 1


def test_a_graph_and_its_variant_are_one_network_that_is_fed_by_place(store: Store) -> None:
    (one,) = compiled(store, read_pipeline(pipeline_path(ZOO_NETS[1])))
    (node,) = [node for node in one.plan.nodes if networks_of(node)]
    assert node.parameters["variant"] == ""
    assert node.parameters["input"] == "x0"
    assert node.parameters["output"] == 0
    assert Digest.parse(network_in(one.plan)).size < 1000


def test_a_wrong_input_name_is_an_error_that_names_the_key_and_the_names_there_are(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match="no input 'picture', but input") as caught:
        compiled(store, with_network(saved(tmp_path, unet(3)), input="picture"))
    assert caught.value.key == "steps.net.input"


def test_a_wrong_output_number_is_an_error_at_compiling(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="1 outputs, and no number 1") as caught:
        compiled(store, with_network(saved(tmp_path, unet(3)), output=1))
    assert caught.value.key == "steps.net.output"


def test_a_corrupt_file_is_an_error_that_names_file_and_key(store: Store, tmp_path: Path) -> None:
    whole = saved(tmp_path, unet(3), "broken")
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(PipelineError, match=r"broken\.onnx") as caught:
        compiled(store, with_network(whole))
    assert caught.value.key == "steps.net.graph"
    assert store.names.items() == {}


def test_a_variant_with_an_unknown_tensor_is_an_error_that_names_the_variant(
    store: Store, tmp_path: Path
) -> None:
    np.savez(tmp_path / "site.npz", nonsense=np.zeros(3, np.float32))
    with pytest.raises(PipelineError, match="nonsense") as caught:
        compiled(store, with_network(saved(tmp_path, unet(3)), variant=str(tmp_path / "site.npz")))
    assert caught.value.key == "steps.net.variant"


def with_control_flow() -> onnx.ModelProto:
    """input -> If(true, input + 1, input) -> logits: runs, and cannot be seen into."""
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    shape: list[Any] = ["n", 3, "rows", "columns"]
    one = onnx.numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "one")
    yes = onnx.numpy_helper.from_array(np.array(True), "yes")
    then = onnx.helper.make_graph(
        [make("Add", ["input", "one"], ["more"])], "then", [], [value("more", 1, shape)]
    )
    other = onnx.helper.make_graph(
        [make("Mul", ["input", "one"], ["same"])], "else", [], [value("same", 1, shape)]
    )
    graph = onnx.helper.make_graph(
        [make("If", ["yes"], ["logits"], then_branch=then, else_branch=other)],
        "flow",
        [value("input", 1, ["n", 1, "rows", "columns"])],
        [value("logits", 1, shape)],
        [one, yes],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def test_a_network_that_cannot_be_opened_stays_its_file_and_says_why(store: Store, tmp_path: Path) -> None:
    path = saved(tmp_path, with_control_flow())
    (one,) = compiled(store, with_network(path))
    graph = network_in(one.plan)
    assert graph == str(Digest.of(path.read_bytes()))
    assert "control-flow" in why_opaque(store, graph)
    assert binding_of(store).networks == {}
    resources = StoreResources(store.objects.root).under(binding_of(store))
    fed = np.zeros((1, 1, 4, 4), np.float32)
    (logits,) = resources.network(graph).run({"input": fed})
    assert logits.shape == (1, 3, 4, 4)
    assert (logits == 1).all()


# -- opened or not -----------------------------------------------------------------------------------------


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were compared with their canonical form."""
    from planner.networks.reading import faithful

    real, files = faithful.faithful, []

    def counted(file: Path, *arguments: Any) -> Any:
        files.append(file.stem)
        return real(file, *arguments)

    monkeypatch.setattr(faithful, "faithful", counted)
    return files


def test_a_file_is_compared_with_its_canonical_form_once_for_each_base(
    store: Store, tmp_path: Path, compared: list[str]
) -> None:
    models = {
        "a": unet(3),
        "site": unet(3, norm_seed=7),
        "folded": unet(3, norm="folded", norm_seed=8),
        "other": unet(4),
    }
    for _ in range(2):
        for name, model in models.items():
            compiled(store, with_network(saved(tmp_path, model, name), name))
    add_network(store, saved(tmp_path, models["site"], "again"), "again")
    assert compared == ["a", "other"]
    add_network(store, saved(tmp_path, unet(5), "third"), "third")
    assert compared == ["a", "other", "third"]


def test_a_network_whose_canonical_form_computes_something_else_stays_opaque_and_says_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planner.networks.reading import opening

    real = opening.open_network

    def wrongly(*arguments: Any) -> Opened:
        opened = real(*arguments)
        name, array = next((n, a) for n, a in opened.tensors.items() if a.ndim == 4)
        return Opened(
            opened.structure, {**opened.tensors, name: 2 * array}, opened.input_names, opened.output_names
        )

    monkeypatch.setattr(opening, "open_network", wrongly)
    path = saved(tmp_path, unet(3))
    (one,) = compiled(store, with_network(path))
    assert network_in(one.plan) == str(Digest.of(path.read_bytes()))
    assert "canonical-differs" in why_opaque(store, network_in(one.plan))
    with pytest.raises(NotOpenable) as caught:
        add_network(store, path, "net")
    assert caught.value.reason == "canonical-differs"
    assert variants(store) == {}
    assert not any(name.startswith(("family/", "network/")) for name in store.names.items())


_COMPILES = """
import sys
sys.modules["onnx"] = None
from pathlib import Path
from models.errors import PipelineError
from models.pipeline_file import pipeline_path, read_pipeline
from object_store.opening import open_store
from planner.compile import compile_pipelines
with open_store(Path(sys.argv[1])) as store:
    try:
        compile_pipelines(store, [read_pipeline(pipeline_path("ct-lungs-net"))])
    except PipelineError as error:
        print(error.key, error, len(store.names.items()))
"""


def test_a_pipeline_with_a_network_is_not_compiled_without_what_opens_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COMPILES, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'lightbox[planner]'" in done.stdout
    assert done.stdout.split()[0] == "steps.net.graph"
    assert done.stdout.split()[-1] == "0"  # nothing was named


# -- binding -----------------------------------------------------------------------------------------------


def test_one_more_variant_builds_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planner.networks.building import build

    made: list[str] = []
    real = build.build_family

    def counted(*arguments: Any, **options: Any) -> Digest:
        made.append("build")
        return real(*arguments, **options)

    monkeypatch.setattr(build, "build_family", counted)
    for number in range(4):
        path = saved(tmp_path, unet(3, norm_seed=100 + number), f"site-{number}")
        compiled(store, with_network(path, f"site-{number}"))
    assert len(made) == 2  # of the first alone, and with what differs lifted
    assert len(binding_of(store).networks) == 4


def test_binding_again_reads_no_variant_that_this_process_knows(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        path = saved(tmp_path, unet(3, norm_seed=100 + number), f"site-{number}")
        compiled(store, with_network(path, f"site-{number}"))
    read: list[type] = []
    real = NetworkReader.read

    def watched(self: Any, digest: Digest, kind: type) -> Any:
        read.append(kind)
        return real(self, digest, kind)

    monkeypatch.setattr(NetworkReader, "read", watched)
    plans = {digest: read_plan(store.objects.get(Digest.parse(digest))) for digest in binding_of(store).plans}
    bind_module.bound_networks(store, bind_module.networks_in(plans))
    assert set(read) == {Family, Build}
    assert read.count(Family) == 1


def test_the_binding_alone_keeps_what_a_network_runs_from(store: Store, tmp_path: Path) -> None:
    model = unet(3, norm_seed=7)
    compiled(store, with_network(saved(tmp_path, unet(3), "a"), "a"))
    (one,) = compiled(store, with_network(saved(tmp_path, model, "b"), "b"))
    bound = binding_of(store)
    for name in list(store.names.items()):
        if name != "binding":
            store.names.delete(name)
    collect_garbage(store.objects, store.names, references, older_than_s=-1.0)
    resources = StoreResources(store.objects.root).under(bound)
    ours = answers(resources, network_in(one.plan), model)
    assert largest_difference(ours, expected(model)) <= 1e-5


def test_networks_of_no_plan_are_forgotten_and_their_bytes_freed(store: Store, tmp_path: Path) -> None:
    kept, gone = unet(3), unet(4)
    (one,) = compiled(store, with_network(saved(tmp_path, kept, "kept"), "kept"))
    (other,) = compiled(store, with_network(saved(tmp_path, gone, "gone"), "gone"))
    store.names.delete(plan_name("gone"))
    compiled(store, with_network(tmp_path / "kept.onnx", "kept"))
    assert forget_networks(store, older_than_s=3600.0) == ()
    assert forget_networks(store, older_than_s=-1.0) == (network_in(other.plan),)
    store.names.shorten_history(1)
    before = sum(digest.size for digest in store.objects)
    collect_garbage(store.objects, store.names, references, older_than_s=-1.0)
    assert sum(digest.size for digest in store.objects) < 0.7 * before
    resources = StoreResources(store.objects.root)
    with pytest.raises(ObjectMissing):
        resources.network(network_in(other.plan))
    ours = answers(resources.under(binding_of(store)), network_in(one.plan), kept)
    assert largest_difference(ours, expected(kept)) <= 1e-5


def test_a_network_one_may_roll_back_to_is_not_forgotten(store: Store, tmp_path: Path) -> None:
    (before,) = compiled(store, with_network(saved(tmp_path, unet(3), "before")))
    promoted(store, "net")
    compiled(store, with_network(saved(tmp_path, unet(4), "after")))
    promoted(store, "net")
    assert forget_networks(store, older_than_s=-1.0) == ()
    assert store.names.get(variant_name(Digest.parse(network_in(before.plan)).sha256)) is not None


# -- promotion ---------------------------------------------------------------------------------------------


def test_a_variant_kept_with_rounding_runs_from_its_own_numbers_until_it_is_promoted(
    store: Store, tmp_path: Path
) -> None:
    base, folded = unet(3, (16, 32)), unet(3, (16, 32), norm="folded", norm_seed=7)
    compiled(store, with_network(saved(tmp_path, base, "base"), "base"))
    (one,) = compiled(store, with_network(saved(tmp_path, folded, "folded"), "folded"))
    graph = network_in(one.plan)
    variant = variants(store)[graph]
    assert not variant.exact
    assert variant.family != graph
    assert graph not in binding_of(store).networks
    exact = answers(StoreResources(store.objects.root).under(binding_of(store)), graph, folded)
    assert largest_difference(exact, expected(folded)) <= 1e-6
    promoted(store, "folded")
    verified = variants(store)[graph].verified
    assert verified is not None
    assert verified.passed
    assert binding_of(store).networks[graph].family == variant.family
    shared = answers(StoreResources(store.objects.root).under(binding_of(store)), graph, folded)
    assert largest_difference(shared, expected(folded)) <= 1e-5


def test_the_golden_cases_of_a_promotion_run_under_the_binding_it_makes(store: Store, tmp_path: Path) -> None:
    compiled(store, with_network(saved(tmp_path, unet(3, (16, 32)), "base"), "base"))
    folded = unet(3, (16, 32), norm="folded", norm_seed=7)
    (one,) = compiled(store, with_network(saved(tmp_path, folded, "folded"), "folded"))
    seen: list[bool] = []

    def gate(digest: Digest, plan: Plan) -> tuple[str, ...]:
        seen.append(network_in(plan) in binding_of(store).networks)
        return ()

    promoted(store, "folded", gate=gate)
    assert seen == [True]
    assert network_in(one.plan) in binding_of(store).networks


def test_a_low_rank_variant_that_is_promoted_computes_what_was_imported(store: Store, tmp_path: Path) -> None:
    base = unet(3, (16, 32))
    model = low_rank_variant(base, 1)
    compiled(store, with_network(saved(tmp_path, base, "base"), "base"))
    (one,) = compiled(store, with_network(saved(tmp_path, model, "adapted"), "adapted"))
    promoted(store, "adapted")
    resources = StoreResources(store.objects.root).under(binding_of(store))
    assert network_in(one.plan) in binding_of(store).networks
    assert largest_difference(answers(resources, network_in(one.plan), model), expected(model)) <= 1e-5


def test_a_variant_with_a_large_tensor_of_its_own_runs_with_it_when_the_binding_alone_is_left(
    store: Store, tmp_path: Path
) -> None:
    base = unet(3, (16, 32, 64))
    model = private_variant(unet(3, (16, 32, 64), norm="folded", norm_seed=7), 1)
    compiled(store, with_network(saved(tmp_path, base, "base"), "base"))
    (one,) = compiled(store, with_network(saved(tmp_path, model, "tuned"), "tuned"))
    graph = network_in(one.plan)
    variant = variants(store)[graph]
    assert variant.family != graph
    assert set(variant.kept.values()) == {"scaled", "stored"}
    promoted(store, "tuned")
    bound = binding_of(store)
    assert bound.networks[graph].family == variant.family
    for name in list(store.names.items()):
        if name != "binding":
            store.names.delete(name)
    collect_garbage(store.objects, store.names, references, older_than_s=-1.0)
    resources = StoreResources(store.objects.root).under(bound)
    assert largest_difference(answers(resources, graph, model), expected(model)) <= 1e-5


# -- in words ----------------------------------------------------------------------------------------------


def test_a_binding_of_a_machine_with_another_engine_falls_back_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    import planner.ways

    (one,) = compiled(store, read_pipeline(pipeline_path("ct-lungs-net")))
    binding, graph = binding_of(store), network_in(one.plan)
    assert said_ways(one.plan, binding) == "onnxruntime fp32"
    assert fallbacks(binding) == ()
    plain = binding.networks[graph].choices[0]
    fast = msgspec.structs.replace(
        plain, engine="openvino", precision="bf16", build="sha256:" + "0" * 64 + "-1"
    )
    choices = msgspec.structs.replace(binding.networks[graph], choices=(fast, plain))
    tuned = msgspec.structs.replace(binding, networks={graph: choices})
    monkeypatch.setattr(
        planner.ways, "engine_available", lambda engine: engine in ("onnxruntime", "openvino")
    )
    assert said_ways(one.plan, tuned) == "openvino bf16"
    monkeypatch.setattr(planner.ways, "engine_available", lambda engine: engine == "onnxruntime")
    assert said_ways(one.plan, tuned) == "onnxruntime fp32"
    assert fallbacks(tuned) == (
        "1 networks were planned for openvino, which is not installed here: they run on onnxruntime fp32",
    )
    fed = {"x0": np.zeros((1, 1, 16, 16), np.float32)}
    elsewhere = msgspec.structs.replace(tuned, machine={**tuned.machine, "cpu": "another"})
    assert said_ways(one.plan, elsewhere) == "onnxruntime fp32"
    assert fallbacks(elsewhere) == (
        "1 networks were planned on another machine or for other engines: they run in fp32",
    )
    (ours,) = StoreResources(store.objects.root).under(tuned).network(graph).run(fed)
    (plainly,) = StoreResources(store.objects.root).under(binding).network(graph).run(fed)
    assert np.array_equal(ours, plainly)


def test_the_ways_of_a_plan_do_not_change_when_others_are_bound(store: Store, tmp_path: Path) -> None:
    (one,) = compiled(store, with_network(saved(tmp_path, unet(3), "a"), "a"))
    nodes = [node.id for node in one.plan.nodes]
    before = binding_of(store).ways_of([network_in(one.plan)], nodes)
    compiled(store, with_network(saved(tmp_path, unet(9, (4, 8)), "b"), "b"))
    after = binding_of(store)
    assert after.ways_of([network_in(one.plan)], nodes) == before != ""
    assert after.ways_of(["sha256:" + "0" * 64 + "-1"], []) == ""


def test_a_gate_of_ones_own_is_part_of_the_plan_and_the_usual_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "strict.yaml"
    file.write_text("extends: ct-lungs-net\npipeline: strict\ngate: {least_dice: 0.999}\n", encoding="utf-8")
    assert read_pipeline(file).gate == Gate(least_dice=0.999)
    with open_store(tmp_path / "store") as store:
        strict, usual = compiled(store, read_pipeline(file), read_pipeline(pipeline_path("ct-lungs-net")))
    assert strict.plan.gate == {"least_dice": 0.999, "mean_dice": 0.995, "volume_change": 0.01}
    assert b'"gate"' in strict.plan.to_bytes()
    assert b'"gate"' not in usual.plan.to_bytes()
    file.write_text("extends: ct-lungs-net\ngate: {least_dice: 2}\n", encoding="utf-8")
    with pytest.raises(PipelineError, match="between 0 and 1") as caught:
        read_pipeline(file)
    assert caught.value.line == 2


# -- networks by themselves --------------------------------------------------------------------------------


def test_networks_are_added_and_listed_without_a_pipeline(store: Store, tmp_path: Path) -> None:
    first = add_network(store, saved(tmp_path, unet(3, (16, 32)), "one"), "one")
    second = add_network(store, saved(tmp_path, unet(3, (16, 32), norm_seed=7), "two"), "two")
    assert first.new_base
    assert not second.new_base
    assert second.bytes_added < 0.6 * first.bytes_added
    known = known_networks(store)
    assert [(k.names, k.network == k.family) for k in known] == [(("one",), True), (("two",), False)]
    assert forget_networks(store, older_than_s=-1.0) == ()


def test_the_network_commands_say_what_is_shared(tmp_path: Path) -> None:
    saved(tmp_path, unet(3), "base")
    saved(tmp_path, unet(3, norm_seed=7), "site")
    (tmp_path / "junk.onnx").write_bytes(b"\x07junk")
    place = ["--store", str(tmp_path / "store"), "--json"]
    added = json.loads(
        lightbox("network", "add", *(str(tmp_path / f"{n}.onnx") for n in ("base", "site")), *place)
    )
    assert [row["name"] for row in added] == ["base", "site"]
    assert added[0]["family"] == added[1]["family"]
    assert [row["new_family"] for row in added] == [True, False]
    listed = json.loads(lightbox("network", "list", *place))
    assert [row["names"] for row in listed] == [["base"], ["site"]]
    junk = [*lightbox_command(), "network", "add", str(tmp_path / "junk.onnx"), *place]
    refused = subprocess.run(junk, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "junk.onnx" in json.loads(refused.stdout)[0]["error"]


# -- running without what compiles -------------------------------------------------------------------------

_RUN = """
import sys
for name in ("onnx", "openvino", "torch", "openvino_telemetry"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from object_store.opening import open_store
from planner.live import current_binding
from planner.resources import StoreResources
with open_store(Path(sys.argv[1])) as store:
    binding = current_binding(store)[1]
resources = StoreResources(Path(sys.argv[1])).under(binding)
for graph in binding.networks:
    (found,) = resources.network(graph).run({"x0": np.zeros((1, 1, 16, 16), np.float32)})
    print(found.shape[1])
"""


def test_a_bound_network_runs_where_onnx_and_openvino_cannot_be_imported(store: Store) -> None:
    compiled(store, *(read_pipeline(pipeline_path(name)) for name in ZOO_NETS[:2]))
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(store.objects.root)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "3"]


_REPORTS = """
import sys
from planner.networks.precision.abilities import levels_of
from models.engines.openvino import OpenvinoSession
print(levels_of("openvino"), sys.modules.get("openvino_telemetry"))
"""


def test_nothing_is_reported_to_anybody_when_openvino_is_used() -> None:
    if not engine_available("openvino"):
        absent("needs the package openvino")
    done = subprocess.run(
        [sys.executable, "-c", _REPORTS],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert "int8" in done.stdout
    assert done.stdout.split()[-1] == "None"  # its importer finds it blocked, and reports nothing


def test_a_network_step_gives_the_same_map_opened_as_opaque(store: Store) -> None:
    (one,) = compiled(store, read_pipeline(pipeline_path(ZOO_NETS[2])))
    (step,) = [
        step.operator
        for step in read_pipeline(pipeline_path(ZOO_NETS[2])).steps
        if isinstance(step.operator, Network)
    ]
    opaque = replace(
        step,
        graph=str(store.objects.put_file(Path(step.graph))),
        variant=str(store.objects.put_file(Path(step.variant))),
    )
    (node,) = [node for node in one.plan.nodes if networks_of(node)]
    opened = Network.from_parameters(node.parameters)
    voxels = np.random.default_rng(2).random((3, 40, 56), np.float32)
    volume = Volume(voxels, np.diag([2.0, 2.0, 2.0, 1.0]), ONE)
    resources = StoreResources(store.objects.root)
    ours = opened.apply([volume], KernelContext(resources=resources.under(binding_of(store))))
    theirs = opaque.apply([volume], KernelContext(resources=resources))
    assert isinstance(ours, ProbabilityMap)
    assert isinstance(theirs, ProbabilityMap)
    assert float(np.abs(ours.values - theirs.values).max()) <= 1e-5
