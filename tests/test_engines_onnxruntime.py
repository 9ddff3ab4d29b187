"""Real trained networks give the numbers published with them, through our session and our operator."""

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.engines.onnxruntime import OnnxSession
from models.errors import KernelError
from models.operators.base import KernelContext
from models.operators.decode import DecodeImages
from models.operators.intensity import Normalise
from models.operators.network import Network
from models.operators.reorient import Reorient
from models.operators.stacking import Stack
from models.values import HU, ProbabilityMap, Series, Volume
from tests.imaging_cases import NoResources, series_in, unzipped


def doubling_graph() -> bytes:
    """y = x * factor, where factor is an input with the default 2."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "doubling",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None]),
            helper.make_tensor_value_info("factor", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        initializer=[helper.make_tensor("factor", TensorProto.FLOAT, [1], [2.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_defaults_of_the_graph_hold_until_a_run_gives_others() -> None:
    session = OnnxSession(memoryview(doubling_graph()), threads=1)
    x = np.array([1.0, 3.0], np.float32)
    assert session.input_names == ("x",)
    assert session.default_names == {"factor"}
    assert session.run({"x": x})[0].tolist() == [2.0, 6.0]
    assert session.run({"x": x, "factor": np.array([10.0], np.float32)})[0].tolist() == [10.0, 30.0]
    assert session.run({"x": x})[0].tolist() == [2.0, 6.0]


def test_what_the_graph_cannot_take_is_a_kernel_error() -> None:
    session = OnnxSession(doubling_graph())
    with pytest.raises(KernelError, match="no input z"):
        session.run({"x": np.zeros(1, np.float32), "z": np.zeros(1, np.float32)})
    with pytest.raises(KernelError, match="failed"):
        session.run({"x": np.zeros((1, 1), np.float64)})
    with pytest.raises(KernelError, match="cannot load"):
        OnnxSession(b"no graph")


def test_sessions_may_be_built_and_run_in_several_threads() -> None:
    graph = doubling_graph()
    results: list[float] = []

    def work() -> None:
        session = OnnxSession(graph)
        results.extend(session.run({"x": np.ones(1000, np.float32)})[0].sum() for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [2000.0] * 80


def test_a_brain_network_labels_its_box_as_published(shared_data: Path) -> None:
    folder = shared_data / "models" / "model5_gw_ae"
    check = np.load(folder / "check.npz")
    head = _nifti(shared_data / "nifti" / "t1_crop.nii.gz")
    (a, b), (c, d), (e, f) = check["box"].reshape(3, 2)
    low, high = check["norm"]
    box = ((head[a:b, c:d, e:f].astype(np.float32) - low) / (high - low)).astype(np.float32)
    logits = OnnxSession((folder / "model.onnx").read_bytes()).run({"input": box[None, None]})[0]
    np.testing.assert_array_equal(logits[0].argmax(axis=0), check["labels"])


def test_a_lung_network_sees_a_patient_as_published(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "models" / "unet_small_ct_lung"
    series = series_in(unzipped(shared_data / "dicom" / "ct-chest-philips.zip", tmp_path))
    session = OnnxSession((folder / "model.onnx").read_bytes(), threads=2)

    class Resources(NoResources):
        def network(self, graph: str) -> OnnxSession:
            return session

    context = KernelContext(resources=Resources())
    check = np.load(folder / "check.npz")
    rising = stacked_by_height(series, context)
    few = Volume(rising.voxels[check["slices"]], rising.affine, HU)
    shifted = Normalise(offset=-1024, scale=1).apply([few], context)
    network = Network(graph="unet", segments=("Lung",), mode="slices", batch=2, multiple_of=8)
    found = network.apply([shifted], context)
    assert isinstance(found, ProbabilityMap)
    published = check["output_every_16th"].reshape(-1, 32, 32)
    np.testing.assert_allclose(found.values[0, :, ::16, ::16], published, atol=1e-4)


def stacked_by_height(series: Series, context: KernelContext) -> Volume:
    """The series as a volume whose slices go up."""
    images = DecodeImages().apply([series], context)
    volume = Reorient(orientation="SPL").apply([Stack().apply([images], context)], context)
    assert isinstance(volume, Volume)
    return volume


def _nifti(path: Path) -> np.ndarray:
    import nibabel

    return np.asarray(nibabel.load(path).dataobj)
