"""Plug-ins by name: found, made with their arguments, and refused in one sentence before anything starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from floe.cluster.api.settings import folder_texts
from floe.cluster.plugins.checks import check_plugins
from floe.cluster.plugins.sources import plugin_sources
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import dump_config, load_config
from floe.configs.plugins.references import is_reference, reference_of
from floe.reward_service.designs.arctic import Arctic

MODULE = """
from floe.plugins import JudgedGroup

def no_star(group: JudgedGroup, penalty: float = 0.2) -> list[float]:
    return [1.0 - penalty * ("*" in (one.sql or "")) for one in group.candidates]

def of_trl(prompts, completions, penalty=0.3):
    return [1.0 for _ in completions]

class Weighted:
    def __init__(self, weight: float):
        if weight < 0:
            raise ValueError("weight is negative")
        self.weight = weight

    def __call__(self, group):
        return [self.weight for _ in group.candidates]

class NotCalled:
    pass

class OddSemantics(Weighted):
    semantics = "loose"

READY = Weighted(2.0)
NUMBER = 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with modules of a user's own, whose names are this test's alone."""
    (tmp_path / "their_reward.py").write_text(MODULE)
    (tmp_path / "broken_reward.py").write_text("import a_module_that_is_not_there")
    (tmp_path / "unreadable_reward.py").write_text("def f(:")
    (tmp_path / "leaving_reward.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("their_reward", "broken_reward", "unreadable_reward", "leaving_reward"):
        sys.modules.pop(name, None)


def checked(*overrides: str) -> list[str]:
    return check_plugins(load_config(None, overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ("reward.design=their_reward:no_star",),
        ("reward.design=their_reward:no_star", "reward.arguments.penalty=0.5"),
        ("reward.design=their_reward:Weighted", "reward.arguments={weight: 2}"),
        ("reward.design=their_reward:READY",),
    ],
)
def test_a_plugin_in_the_working_folder_is_found(folder, overrides):
    given = f", with {'penalty' if 'no_star' in overrides[0] else 'weight'} given" if overrides[1:] else ""
    shown = f"reward.design {overrides[0].partition('=')[2]} from {folder}/their_reward.py{given}"
    assert checked(*overrides) == [shown]


# Each sentence: what it names, and what it says is wrong.
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("reward.design=their_rewards:no_star",), "no module 'their_rewards'"),
        (("reward.design=their_reward.inner:no_star",), "no module 'their_reward.inner'"),
        (("reward.design=their_reward:no_sta",), "the nearest is 'no_star'"),
        (("reward.design=their_reward:NUMBER",), "no reward design"),
        (("reward.design=their_reward:NotCalled",), "no reward design"),
        (("reward.design=their_reward:Weighted",), "missing a required argument: 'weight'"),
        (("reward.design=their_reward:no_star", "reward.arguments.penalti=1"), "it takes penalty: float = 0.2"),
        (("reward.design=their_reward:Weighted", "reward.arguments.weight=-1"), "weight is negative at "),
        (("reward.design=their_reward:no_star", "reward.arguments.penalty=abc"), "takes a float there"),
        (("reward.design=their_reward:no_star", "reward.arguments.penalty=true"), "takes a float there"),
        (("reward.design=their_reward:of_trl",), "called as a reward design is"),
        (("reward.design=their_reward.py:no_star",), "leave out .py"),
        (("reward.design=their_reward:OddSemantics", "reward.arguments.weight=1"), "'loose'"),
        (("reward.design=their_reward:READY", "reward.arguments.weight=1"), "made already"),
        (("reward.design=broken_reward:f",), "No module named 'a_module_that_is_not_there' at "),
        (("reward.design=unreadable_reward:f",), "unreadable_reward.py:1"),
        (("reward.design=leaving_reward:f",), "SystemExit"),
    ],
)
def test_a_wrong_plugin_is_refused_in_one_sentence(folder, overrides, said):
    with pytest.raises(ConfigError) as refused:
        checked(*overrides)
    text = str(refused.value)
    assert said in text and "reward." in text and text.endswith(".") and "\n" not in text


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("reward.design=arctc",),
            "'arctic', 'sql_r1', 'reasoning_sql', 'graph_reward' or package.module:Name",
        ),
        (("reward.design=a b:C",), "package.module:Name"),
        (("reward.arguments.penalty=1",), "built in"),
        (("reward.design=a:B", "reward.arguments=3"), "a mapping"),
        (("reward.design=a:B", "reward.arguments={pen alty: 1}"), "'pen alty'"),
        (("reward.design=a:B", "reward.arguments.penalty=.nan"), "not finite"),
        (("run.seed.x=1",), "Unknown key 'run.seed.x'"),
    ],
)
def test_a_wrong_name_or_argument_is_refused_when_the_configuration_is_read(overrides, said):
    with pytest.raises(ConfigError, match=r"^[^\n]+\.$") as refused:
        load_config(None, overrides)
    assert said in str(refused.value)


def test_arguments_of_file_and_command_line_are_joined_and_written_back(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("reward:\n  design: a.b:C\n  arguments: {penalty: 0.2, names: [x, y]}\n")
    config = load_config(file, ["reward.arguments.penalty=0.5", "reward.arguments.deep={on: true}"])
    assert config.reward.arguments == {"penalty": 0.5, "names": ["x", "y"], "deep": {"on": True}}
    dump_config(config, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config


def test_the_working_folder_is_kept_for_workers_and_a_resume_from_elsewhere(folder, tmp_path, monkeypatch):
    config = load_config(None, ["reward.design=their_reward:no_star"])
    dump_config(config, tmp_path / "config.yaml")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    again = load_config(tmp_path / "config.yaml")
    assert again.run.plugin_folder == folder
    assert check_plugins(again) == [f"reward.design their_reward:no_star from {folder}/their_reward.py"]


def test_without_plugins_no_folder_is_kept():
    assert load_config(None).run.plugin_folder is None


def test_a_file_of_the_working_folder_hides_no_library(folder):
    (folder / "statistics.py").write_text("raise SystemExit('the wrong one')")
    (folder / "their_reward.py").write_text("from statistics import mean\n" + MODULE)
    assert checked("reward.design=their_reward:no_star")


def test_a_folder_can_be_named_in_place_of_the_working_one(tmp_path, folder):
    other = tmp_path / "mine"
    other.mkdir()
    (other / "far_reward.py").write_text(MODULE)
    assert checked("reward.design=far_reward:no_star", f"run.plugin_folder={other}") == [
        f"reward.design far_reward:no_star from {other}/far_reward.py"
    ]
    sys.modules.pop("far_reward")


def test_a_changed_file_is_read_again(folder):
    config = load_config(None, ["reward.design=their_reward:no_star"])
    check_plugins(config)
    first = sys.modules["their_reward"]
    check_plugins(config)
    assert sys.modules["their_reward"] is first
    (folder / "their_reward.py").write_text(MODULE.replace("no_star", "no_stars"))
    with pytest.raises(ConfigError, match="the nearest is 'no_stars'"):
        check_plugins(config)


def test_the_code_of_a_module_and_of_a_whole_package_is_what_a_resume_compares(folder):
    package = folder / "their_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from their_package.inner.deep import no_star")
    (package / "inner" / "__init__.py").touch()
    (package / "inner" / "deep.py").write_text(MODULE)
    config = load_config(None, ["reward.design=their_package:no_star"])
    before = plugin_sources(config)
    assert [name for name, _ in before] == [
        "reward.design/__init__.py", "reward.design/inner/__init__.py", "reward.design/inner/deep.py",
    ]  # fmt: skip
    (package / "inner" / "deep.py").write_text(MODULE + "\n")
    assert plugin_sources(config) != before
    assert [name for name, _ in plugin_sources(load_config(None, ["reward.design=their_reward:no_star"]))] == [
        "reward.design/their_reward.py"
    ]
    for name in [one for one in sys.modules if one.partition(".")[0] == "their_package"]:
        del sys.modules[name]


def test_what_binds_arguments_to_a_library_is_compared_too(folder):
    (folder / "their_library.py").write_text(MODULE)
    bound = "import functools, their_library\nHARSH = functools.partial(their_library.no_star, penalty=1.0)\n"
    (folder / "their_reward.py").write_text(bound + "MILD = their_library.no_star\n")
    assert checked("reward.design=their_reward:HARSH") == [
        f"reward.design their_reward:HARSH from {folder}/their_reward.py"
    ]
    mild = load_config(None, ["reward.design=their_reward:MILD"])
    assert [name for name, _ in plugin_sources(mild)] == [
        "reward.design/their_reward.py",
        "reward.design/their_library.py",
    ]
    sys.modules.pop("their_library", None)


def test_an_entry_point_of_two_packages_is_refused(folder, monkeypatch):
    offers = {"one": "their_reward:no_star", "other": "their_reward:READY", "same": "their_reward:no_star"}
    for package, value in offers.items():
        place = folder / "installed" / f"{package}-1.0.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (place / "entry_points.txt").write_text(f"[floe.rewards]\ntwice = {value}\n{package} = {value}\n")
    monkeypatch.syspath_prepend(folder / "installed")
    assert checked("reward.design=other") == [f"reward.design other from {folder}/their_reward.py"]
    with pytest.raises(ConfigError, match=r"more than one installed package offers \(.*their_reward:READY of other"):
        checked("reward.design=twice")


def test_a_package_without_init_is_compared_and_read_again(folder):
    package = folder / "their_folder"
    package.mkdir()
    (package / "rewards.py").write_text(MODULE)
    config = load_config(None, ["reward.design=their_folder.rewards:no_star"])
    assert check_plugins(config) == [f"reward.design their_folder.rewards:no_star from {package}/rewards.py"]
    assert plugin_sources(config) == [("reward.design/rewards.py", MODULE)]
    assert folder_texts(sys.modules["their_folder.rewards"].no_star) == [f'run.plugin_folder="{folder}"']
    (package / "rewards.py").write_text(MODULE.replace("no_star", "no_stars"))
    with pytest.raises(ConfigError, match="the nearest is 'no_stars'"):
        check_plugins(config)
    for name in ("their_folder", "their_folder.rewards"):
        sys.modules.pop(name, None)


def inner_function():
    def inner(group):
        return []

    return inner


@pytest.mark.parametrize("value", [inner_function(), lambda group: [], 5])
def test_what_no_other_process_can_import_has_no_reference(value):
    with pytest.raises(UserError, match=r"^[^\n]+\.$"):
        reference_of(value)


def test_what_a_notebook_defines_is_sent_to_a_file(monkeypatch):
    def no_star(group):
        return []

    monkeypatch.setattr(no_star, "__module__", "__main__")
    monkeypatch.setattr(no_star, "__qualname__", "no_star")
    with pytest.raises(UserError, match=r"%%writefile my_plugin.py.*'my_plugin:no_star'"):
        reference_of(no_star)


def test_a_class_and_a_function_have_a_reference():
    assert reference_of(Arctic) == "floe.reward_service.designs.arctic:Arctic"
    assert reference_of(os.path.join) == "posixpath:join"
    assert reference_of("a.b:C") == "a.b:C"
    assert (
        is_reference("a.b:C.d") and not is_reference("a.b") and not is_reference("a:b:c") and not is_reference("1a:b")
    )
