"""`lightbox explain` keeps its rows short however many pipelines share a stage."""

import json
from pathlib import Path

from typer.testing import CliRunner

from object_store.opening import open_store
from serving.cli.main import app
from tests.planner_cases import compile_fakes, things


def test_of_many_that_share_a_stage_three_are_named_and_json_has_all(tmp_path: Path) -> None:
    names = [f"thing-{n}" for n in range(8)]
    with open_store(tmp_path / "store") as store:
        compile_fakes(store, [things(name) for name in names])
    words = ["explain", "thing-7", "--store", str(tmp_path / "store")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "thing-0, thing-1, thing-2 and 4 more" in told.stdout
    assert "thing-3" not in told.stdout
    plain = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert plain["pipelines"][0]["stages"][0]["shared_with"] == names[:7]
