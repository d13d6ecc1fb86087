"""Ray's surroundings (RAY_ADDRESS, the record of `ray start`, TMPDIR, HOME): an own Ray, or one sentence."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from floe.cluster.machine.ray_address import check_answers, check_dashboard_port, cluster_address, passed_over
from floe.cluster.ray_actors import own_ray
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import ClusterSection

AUTO = ClusterSection()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """Leave no address and no token in the environment, and put Ray's folder below one of the test."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))


@pytest.fixture
def answering():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent():
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))  # and nobody listens
        yield f"127.0.0.1:{unanswered.getsockname()[1]}"


def record(address: str, folder: Path) -> Path:
    path = folder / "ray" / "ray_current_cluster"
    path.parent.mkdir()
    path.write_text(address)
    return path


@pytest.mark.parametrize("named", ["auto", "local", ""])
def test_with_no_cluster_there_is_an_own_one_whatever_the_variable_calls_that(monkeypatch, named):
    monkeypatch.setenv("RAY_ADDRESS", named)
    assert cluster_address(AUTO) is None and passed_over(AUTO) == ""


@pytest.mark.parametrize("named", ["auto", ""])
def test_a_recorded_cluster_that_answers_is_joined(monkeypatch, tmp_path, answering, named):
    monkeypatch.setenv("RAY_ADDRESS", named)
    record(f"{answering}\n", tmp_path)
    assert cluster_address(AUTO) == answering and passed_over(AUTO) == ""
    assert cluster_address(ClusterSection(address="local")) is None


def test_the_record_of_a_cluster_that_died_is_passed_over_and_named(tmp_path, silent):
    path = record(silent, tmp_path)
    assert cluster_address(AUTO) is None
    assert silent in passed_over(AUTO) and str(path) in passed_over(AUTO)


@pytest.mark.parametrize("named", ["http://127.0.0.1:8265", "https://head:8265", "ray://127.0.0.1:10001", "head"])
def test_an_address_of_another_kind_names_the_variable(monkeypatch, named):
    monkeypatch.setenv("RAY_ADDRESS", named)
    address = cluster_address(AUTO)
    assert address is not None
    with pytest.raises(UserError, match=r"^RAY_ADDRESS is .*host:port.* as ray start printed it"):
        check_answers(address)


def test_a_silent_address_names_where_it_was_read(monkeypatch, silent):
    with pytest.raises(UserError, match=r"which cluster\.address names: .* set cluster\.address=local\."):
        check_answers(silent)
    monkeypatch.setenv("RAY_ADDRESS", silent)
    with pytest.raises(UserError, match=r"which RAY_ADDRESS names: .* unset RAY_ADDRESS\."):
        check_answers(silent)


@pytest.mark.parametrize("port", [99999, 65536, 0, -1, "x", ""])
def test_a_port_that_is_none_in_the_address(port):
    with pytest.raises(UserError, match=r"^cluster\.address is '127\.0\.0\.1:.*': .*port from 1 to 65535"):
        check_answers(f"127.0.0.1:{port}")


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_a_port_that_is_none_for_the_dashboard(port):
    with pytest.raises(UserError, match=rf"cluster\.dashboard_port is {port}"):
        load_config(None, [f"cluster.dashboard_port={port}"])
    check_dashboard_port(load_config(None, ["cluster.dashboard_port=null"]).cluster)


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_too_long_for_rays_sockets_names_its_variable(monkeypatch, variable):
    monkeypatch.delenv("RAY_TMPDIR")
    own_ray.check_temp_folder()
    folder = "/tmp/" + "x" * 60
    monkeypatch.setenv(variable, folder)
    with pytest.raises(UserError, match=rf"^{variable} is {folder}, \d+ bytes too long .* set RAY_TMPDIR to .* /tmp"):
        own_ray.check_temp_folder()
    assert not Path(folder).exists()


def test_the_longest_path_of_a_socket_is_as_long_as_ray_makes_it(monkeypatch):
    """Check that Ray too accepts a path one byte shorter than one that is too long."""
    from ray._private.utils import validate_socket_filepath

    length = own_ray.MAX_SOCKET_PATH_BYTES - len(own_ray.SESSION.format(pid=os.getpid())) - len("/tmp//")
    fitting = Path("/tmp") / ("x" * length)
    validate_socket_filepath(str(fitting / own_ray.SESSION.format(pid=os.getpid())))
    with pytest.raises(OSError, match="AF_UNIX"):
        validate_socket_filepath(f"{fitting}x/{own_ray.SESSION.format(pid=os.getpid())}")
    monkeypatch.setenv("RAY_TMPDIR", f"{fitting}x")
    with pytest.raises(UserError, match="1 bytes too long"):
        own_ray.check_temp_folder()


def test_a_folder_that_ray_cant_write_names_its_variable(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/proc/nowhere")
    with pytest.raises(UserError, match="RAY_TMPDIR is /proc/nowhere, where Ray can't write"):
        own_ray.check_temp_folder()


def test_without_a_writable_home_ray_gets_a_token_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/proc/no-home")
    own_ray.provide_token()
    token = os.environ["RAY_AUTH_TOKEN"]
    assert len(token) == 64
    own_ray.provide_token()
    assert os.environ["RAY_AUTH_TOKEN"] == token


@pytest.mark.parametrize(
    ("variable", "value"), [("HOME", None), ("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN_PATH", "/a/token")]
)
def test_where_the_user_has_or_can_have_a_token_none_is_made(monkeypatch, tmp_path, variable, value):
    monkeypatch.setenv("HOME", "/proc/no-home")
    monkeypatch.setenv(variable, value or str(tmp_path))
    own_ray.provide_token()
    assert "RAY_AUTH_TOKEN" not in os.environ
