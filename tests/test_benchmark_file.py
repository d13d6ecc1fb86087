"""The file of `floe evaluate --benchmarks`: what it takes, where its paths start, and what is refused where."""

from __future__ import annotations

from pathlib import Path

import pytest

from floe.cluster.benchmark_table.table_file import read_table_file
from floe.cluster.operations.evaluate_table import TableOptions, with_options
from floe.configs.errors import ConfigError
from floe.configs.files.shipped import shipped_config

WHOLE = """
config: smoke
samples: 4
benchmarks:
  - {name: spider, data: sets/spider, semantics: spider, suite: sets/suite, split: dev, limit: 30}
  - {name: own, questions: own.json, databases: /dbs, clock: "2025-01-15 00:00:00", prompt: {evidence: false}}
policies:
  - {name: base, base: true}
  - {name: trained, adapter: runs/one}
  - {name: big, endpoint: {url: "http://localhost:1/v1", model: m}}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "benchmarks.yaml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read_and_its_relative_paths_start_at_its_folder(tmp_path):
    table = read_table_file(written(tmp_path, WHOLE))
    spider, own = table.benchmarks
    assert (spider.data, spider.suite) == (tmp_path / "sets/spider", tmp_path / "sets/suite")
    assert (spider.semantics, spider.split, spider.limit) == ("spider", "dev", 30)
    assert (own.questions, own.databases, own.data) == (tmp_path / "own.json", Path("/dbs"), None)
    assert own.prompt.model_dump(exclude_none=True) == {"evidence": False}
    assert [one.name for one in table.policies] == ["base", "trained", "big"]
    assert table.policies[1].adapter == tmp_path / "runs/one"
    assert (table.samples, table.config) == (4, shipped_config("smoke"))


def test_without_policies_it_is_the_base_model(tmp_path):
    table = read_table_file(written(tmp_path, "benchmarks: [{name: a, data: b}]"))
    assert [(one.name, one.base) for one in table.policies] == [("base", True)]
    assert (table.config, table.samples) == (None, None)


def test_options_of_the_command_line_override_the_file(tmp_path):
    path = written(tmp_path, WHOLE)
    options = TableOptions(file=path, limit=7, split="test", samples=2, adapter=tmp_path / "mine")
    table = with_options(read_table_file(path), options)
    assert [one.limit for one in table.benchmarks] == [7, 7]
    assert [one.split for one in table.benchmarks] == ["test", None]
    assert table.samples == 2
    assert [(one.name, one.base, one.adapter) for one in table.policies] == [
        ("base", True, None),
        ("adapter", None, tmp_path / "mine"),
    ]
    same = with_options(read_table_file(path), TableOptions(file=path))
    assert same == read_table_file(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("benchmark: []", "'benchmarks' in {path} is empty, but must be a list of at least one entry: add one."),
        ("[a]", "{path} holds no benchmarks: write a list 'benchmarks' of 'name' and 'data' each."),
        ("benchmarks: {a: 1", "is not valid YAML"),
        ("benchmarks: [3]", "In {path}, entry 1 of 'benchmarks' is 3: write 'name: ...' and what else it needs."),
        ("benchmarks: [{data: b}]", "In {path}, entry 1 of 'benchmarks' lacks 'name': add it."),
        (
            "benchmarks: [{name: a, data: b}, {name: c, data: d, semantic: bird}]",
            "Unknown key 'semantic' in entry 2 of 'benchmarks' ('c') of {path}: the nearest known key is 'semantics'.",
        ),
        ("extra: 1\nbenchmarks: [{name: a, data: b}]", "Unknown key 'extra' in the file of {path}: the nearest"),
        (
            "benchmarks: [{name: a, data: b, prompt: {style: arctic}}]",
            "Unknown key 'prompt.style' in entry 1 of 'benchmarks' ('a') of {path}: set it in the configuration, "
            "because all data sets share it.",
        ),
        (
            "benchmarks: [{name: a, data: b, limit: 0}]",
            "In {path}, 'limit' of entry 1 of 'benchmarks' ('a') is 0, but must be at least 1: correct it.",
        ),
        ("benchmarks: [{name: a, data: b, limit: yes}]", "is 'yes', but must be a whole number"),
        ("benchmarks: [{name: a, data: b, limit: true}]", "is True, but must be a whole number"),
        ("benchmarks: [{name: a, data: b, semantics: exact}]", "must be 'bird', 'spider' or 'strict'"),
        ("benchmarks: [{name: a}]", "entry 1 of 'benchmarks' ('a') needs either 'data', a folder, or 'questions'"),
        ("benchmarks: [{name: a, data: b, questions: c}]", "needs either 'data', a folder, or 'questions'"),
        ("benchmarks: [{name: a, questions: c}]", "has 'questions' without 'databases'"),
        ("benchmarks: [{name: a, questions: c, databases: d, split: dev}]", "a single questions file has no splits"),
        ("benchmarks: [{name: a, data: b, layout: spyder}]", "has the layout 'spyder', which floe does not know: use"),
        ("benchmarks: [{name: a/b, data: b}]", "is called 'a/b', which can't name a folder"),
        ("benchmarks: [{name: a, data: b}, {name: A, data: c}]", "two entries of 'benchmarks' are called 'a'"),
        (
            "benchmarks: [{name: a, data: ''}]",
            "'data' of entry 1 of 'benchmarks' ('a') is '', but must be a path that is not empty",
        ),
        ("benchmarks: [{name: a, data: b}]\npolicies: [{name: p}]", "needs one of 'base: true', 'adapter' and"),
        ("benchmarks: [{name: a, data: b}]\npolicies: [{name: p, base: false}]", "'base' of entry 1 of 'policies'"),
        (
            "benchmarks: [{name: a, data: b}]\npolicies: [{name: p, endpoint: {url: 'http://h/v1', model: m, key: k}}]",
            "Unknown key 'key' in 'endpoint' of entry 1 of 'policies' ('p') in {path}: known are url, model",
        ),
        (
            "benchmarks: [{name: a, data: b}]\npolicies: [{name: p, base: true, adapter: x}]",
            "entry 1 of 'policies' ('p') needs one of 'base: true', 'adapter' and 'endpoint'",
        ),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence_that_says_where(tmp_path, text, sentence):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        read_table_file(path)
    message = str(refused.value)
    assert sentence.replace("{path}", str(path)) in message
    assert str(path) in message and "\n" not in message


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no benchmarks file .*none\.yaml"):
        read_table_file(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="Can't read the benchmarks file"):
        read_table_file(tmp_path)
