"""The helper that runs a server for benches: ready, stopped by its pid, nothing left behind."""

from pathlib import Path

import pytest

from loadtest.processes import process_tree
from loadtest.server import LightboxServer, ServerFailed, lightbox


def test_a_server_is_ready_inside_the_block_and_gone_after_it(tmp_path: Path) -> None:
    with LightboxServer(store=tmp_path / "store") as server:
        folder, pid = server.data_dir, server.pid
        assert server.client().is_ready()
        assert server.client().promoted() == []
        assert server.dimse_port > 0
        assert server.ready_after_s > 0
        assert folder.exists()
        assert len(process_tree(pid)) > 1
    assert process_tree(pid) == []
    assert not folder.exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    settings = {"LIGHTBOX_DIMSE__PORT": "99999"}
    with pytest.raises(ServerFailed, match=r"ended before it was ready:.*dimse.port"):
        LightboxServer(folder=tmp_path, settings=settings).__enter__()


def test_a_command_that_fails_is_raised_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match=r"lightbox promote no-such.*exit code"):
        lightbox("promote", "no-such", "--store", str(tmp_path))
