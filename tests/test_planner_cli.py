"""The commands around compiling: what they print, where errors go, and their exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import planner.cost
from planner.bind import without_measuring
from serving.cli.main import app


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring costs is tested elsewhere and takes seconds."""
    monkeypatch.setattr(planner.cost, "measured_costs", lambda *args, **kwargs: without_measuring)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def lightbox(store: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--store", str(store)])


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def child_of_ct_lungs(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(f"extends: ct-lungs\npipeline: my-lungs\n{text}", encoding="utf-8")
    return str(path)


def test_compile_explain_diff_promote_and_rollback(store: Path, tmp_path: Path) -> None:
    mine = child_of_ct_lungs(tmp_path, "steps: {air: {max_hu: -420}}\ngolden: ~\n")
    compiled = answer(lightbox(store, "compile", "ct-lungs", mine, "--json"))
    assert [row["pipeline"] for row in compiled["plans"]] == ["ct-lungs", "my-lungs"]
    assert all(row["shared_stages"] for row in compiled["plans"])

    svg = tmp_path / "picture.svg"
    explained = answer(lightbox(store, "explain", "--svg", str(svg), "--json"))
    assert explained["together"]["stages"] < explained["together"]["stages_alone"]
    assert svg.read_text(encoding="utf-8").startswith("<svg")

    different = lightbox(store, "diff", "ct-lungs", "my-lungs", "--json")
    assert different.exit_code == 1
    assert {"key": "steps.air.max_hu", "before": -400.0, "after": -420.0} in json.loads(different.stdout)
    assert lightbox(store, "diff", "ct-lungs", "ct-lungs").exit_code == 0

    first = answer(lightbox(store, "promote", "my-lungs", "--tenant", "t1", "--json"))
    assert first[0]["plan"] == compiled["plans"][1]["plan"]
    child_of_ct_lungs(tmp_path, "steps: {air: {max_hu: -440}}\ngolden: ~\n")
    answer(lightbox(store, "compile", mine, "--json"))
    second = answer(lightbox(store, "promote", "my-lungs", "--tenant", "t1", "--json"))
    assert second[0]["plan"] != first[0]["plan"]
    back = answer(lightbox(store, "rollback", "my-lungs", "--tenant", "t1", "--json"))
    assert back[0]["plan"] == first[0]["plan"]


def test_a_failed_check_is_exit_code_1_and_stops_a_promotion(store: Path, tmp_path: Path) -> None:
    golden = (
        "golden:\n"
        "  - phantom: {seed: 1, slices: 12, rows: 48, columns: 48, spacing_mm: [9, 8, 8]}\n"
        "    expect: {lungs: {dice: {Left lung: 1.0}}}\n"
    )
    answer(lightbox(store, "compile", child_of_ct_lungs(tmp_path, golden), "--json"))
    checked = lightbox(store, "check", "my-lungs", "--json")
    assert checked.exit_code == 1
    assert [finding["passed"] for finding in json.loads(checked.stdout)[0]["findings"]] == [False]
    refused = lightbox(store, "promote", "my-lungs")
    assert refused.exit_code == 1
    assert "did not pass its golden cases" in refused.stderr
    assert answer(lightbox(store, "store", "ls", "tenant/", "--json")) == {}
    assert lightbox(store, "promote", "my-lungs", "--skip-check").exit_code == 0


def test_the_store_can_be_listed_verified_and_swept(store: Path) -> None:
    answer(lightbox(store, "compile", "ct-lungs", "--json"))
    assert {"binding", "plan/ct-lungs"} <= answer(lightbox(store, "store", "ls", "--json")).keys()
    assert answer(lightbox(store, "store", "verify", "--json"))["findings"] == []
    assert answer(lightbox(store, "store", "gc", "--json"))["deleted"] == []
    (victim,) = (
        path for path in (store / "objects").rglob("*") if path.is_file() and path.stat().st_size > 9000
    )
    victim.chmod(0o644)
    victim.write_bytes(b"x" * victim.stat().st_size)
    assert lightbox(store, "store", "verify").exit_code == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("compile", "nowhere"), "there is no bundled pipeline 'nowhere'"),
        (("compile", "nowhere.yaml"), "nowhere.yaml: there is no such file"),
        (("explain", "nothing"), "pipeline 'nothing' has not been compiled into this store"),
        (("check", "nothing"), "pipeline 'nothing' has not been compiled into this store"),
        (("promote", "nothing"), "pipeline 'nothing' has not been compiled into this store"),
        (("rollback", "nothing"), "tenant 'local' has no promoted pipeline 'nothing'"),
        (("diff", "nothing", "nothing"), "there is no bundled pipeline 'nothing'"),
    ],
)
def test_an_error_is_one_sentence_on_stderr_and_exit_code_2(
    store: Path, words: tuple[str, ...], says: str
) -> None:
    result = lightbox(store, *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("lightbox: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_error_in_a_file_names_file_line_and_key(store: Path, tmp_path: Path) -> None:
    mine = child_of_ct_lungs(tmp_path, "steps: {air: {max_hy: -420}}\n")
    result = lightbox(store, "compile", mine)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"lightbox: {mine}:3: steps.air.max_hy: ")


def configured(folder: Path) -> Path:
    """A configuration whose data are in `folder`, with one tenant."""
    path = folder / "lightbox.toml"
    path.write_text(
        f'data_dir = "{folder / "data"}"\n[[tenants]]\nname = "north"\n[[routes]]\ntenant = "north"\n',
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("by", ["option", "environment"])
def test_every_command_goes_by_the_servers_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = configured(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "server.json").write_text('{"http": "http://127.0.0.1:1"}', encoding="utf-8")
    first = ["--config", str(path)] if by == "option" else []
    if by == "environment":
        monkeypatch.setenv("LIGHTBOX_CONFIG", str(path))

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, [*first, *words])

    compiled = answer(run("compile", "ct-lungs", "--no-measure", "--json"))
    assert answer(run("promote", "ct-lungs", "--tenant", "north", "--skip-check", "--json"))
    assert answer(run("explain", "--json"))["pipelines"]
    assert answer(run("store", "ls", "tenant/", "--json")) == {
        "tenant/north/ct-lungs": compiled["plans"][0]["plan"]
    }
    assert "no server answers at http://127.0.0.1:1:" in run("jobs").stderr
    assert "no server answers at http://127.0.0.1:1:" in run("results").stderr
    assert (tmp_path / "data" / "store").is_dir()
    assert not (tmp_path / "lightbox-data").exists()


def test_a_configuration_is_forgotten_with_the_command_that_named_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["--config", str(configured(tmp_path)), "store", "ls"]).exit_code == 0
    assert CliRunner().invoke(app, ["store", "ls"]).exit_code == 0
    assert (tmp_path / "lightbox-data" / "store").is_dir()


@pytest.mark.parametrize("command", ["promote", "rollback"])
@pytest.mark.parametrize("tenant", ["a/b", "North", "", "-x", "x" * 64, "local\n"])
def test_what_no_tenant_can_be_called_is_refused(store: Path, command: str, tenant: str) -> None:
    result = lightbox(store, command, "ct-lungs", "--tenant", tenant)
    assert result.exit_code == 2
    assert "is no tenant's name" in result.stderr


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_tenant_that_the_configuration_does_not_know_is_refused(tmp_path: Path, command: str) -> None:
    path = configured(tmp_path)
    result = CliRunner().invoke(app, ["--config", str(path), command, "ct-lungs", "--tenant", "south"])
    assert result.exit_code == 2
    assert result.stderr == "lightbox: --tenant: the configuration has no tenant 'south', but north\n"
