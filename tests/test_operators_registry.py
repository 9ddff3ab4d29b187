"""Every word leads to its operator, and the registry costs nothing until a word is looked up."""

import subprocess
import sys

import pytest

from models.errors import PipelineError
from models.operators.base import Operator
from models.operators.registry import OPERATORS, operator_from
from models.operators.threshold import Threshold


@pytest.mark.parametrize("word", sorted(OPERATORS))
def test_a_word_leads_to_the_operator_of_that_name(word: str) -> None:
    assert issubclass(OPERATORS[word], Operator)
    assert OPERATORS[word].name == word


def test_importing_the_registry_imports_no_operator_and_nothing_heavy() -> None:
    heavy = ["scipy", "onnxruntime", "highdicom", "pydicom", "models.operators.threshold"]
    code = f"import sys, models.operators.registry; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_my_operators_imports_neither_scipy_nor_a_runtime() -> None:
    mine = "threshold components holes morphology combine refine network measure resample split_left_right"
    imports = "; ".join(f"import models.operators.{module}" for module in mine.split())
    code = f"import sys; {imports}; print([m for m in ('scipy', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_operator_comes_back_from_its_own_parameters() -> None:
    bone = Threshold(min_hu=180.0, segment="Bone")
    assert operator_from("threshold", 1, bone.parameters()) == bone


def test_a_plan_of_another_lightbox_is_refused() -> None:
    with pytest.raises(PipelineError, match="no operator 'levitate'"):
        operator_from("levitate", 1, {})
    with pytest.raises(PipelineError, match="compile again"):
        operator_from("threshold", 99, {"min_hu": 0.0})
