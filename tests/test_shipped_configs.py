"""A shipped configuration is given by its name wherever a command takes a configuration."""

import pytest
import typer
from typer.main import get_command

from floe.cluster.cli import app
from floe.cluster.commands.paths import given_config
from floe.configs.errors import ConfigError
from floe.configs.files.loading import load_config
from floe.configs.files.shipped import shipped_names
from tests.command_line import REPOSITORY

SHIPPED = REPOSITORY / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working folder without configurations."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("given", ["quickstart", "configs/quickstart.yaml"])
def test_a_name_and_the_path_in_a_checkout_mean_the_shipped_file(given):
    assert given_config(given) == SHIPPED / "quickstart.yaml"
    assert load_config(given) == load_config(SHIPPED / "quickstart.yaml") != load_config(None)


def test_every_shipped_configuration_has_its_name():
    assert shipped_names() == sorted(path.stem for path in SHIPPED.glob("*.yaml"))
    assert {given_config(name) for name in shipped_names()} == set(SHIPPED.glob("*.yaml"))


@pytest.mark.parametrize("given", ["quickstart", "configs/quickstart.yaml"])
def test_a_file_of_the_users_comes_first(given, elsewhere):
    own = elsewhere / given
    own.parent.mkdir(exist_ok=True)
    own.write_text("run: {name: mine}\n")
    assert given_config(given) == own
    assert load_config(given_config(given)).run.name == "mine"


def test_a_folder_of_that_name_does_not_hide_it(elsewhere):
    (elsewhere / "smoke").mkdir()
    assert given_config("smoke") == SHIPPED / "smoke.yaml"


@pytest.mark.parametrize("given", ["quikstart", "quickstart.yaml", "other/quickstart", "configs/quikstart.yaml"])
def test_what_is_no_name_is_refused_with_the_names(given, elsewhere):
    with pytest.raises(ConfigError) as caught:
        load_config(given_config(given))
    said = str(caught.value)
    assert f"no configuration file {elsewhere / given}: " in said
    assert said.endswith(f"the name of one that floe ships: {', '.join(shipped_names())}.")


def options_for_configurations():
    """(command, option) for every option of every command that takes a configuration."""
    waiting = [("floe", get_command(app))]
    while waiting:
        name, command = waiting.pop()
        waiting += [(f"{name} {sub}", one) for sub, one in getattr(command, "commands", {}).items()]
        yield from (
            (f"{name} {one.opts[0]}", one)
            for one in command.params
            if one.name == "config" or one.metavar == "CONFIG"
        )  # fmt: skip


def test_every_command_with_a_configuration_takes_a_name():
    found = dict(options_for_configurations())
    assert found.keys() >= {"floe train --config", "floe plan --config", "floe ablate --config", "floe ask --config"}
    assert any("--measure-pass-rate" in name for name in found) and any("--prompts" in name for name in found)
    context = typer.Context(get_command(app))
    for name, option in found.items():
        assert option.process_value(context, "smoke") == SHIPPED / "smoke.yaml", name
