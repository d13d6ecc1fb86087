"""Rewrites and mutations on real SQLite, verified pairs, a training that improves, and the command."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from floe.cluster.graph_training.auc import resample_weights, weighted_auc
from floe.cluster.graph_training.dataset import held_out_databases
from floe.cluster.graph_training.fitting import FitPlan, examples_of, fit, margin_loss, supervised_loss
from floe.cluster.graph_training.mutations import MUTATIONS, Surroundings
from floe.cluster.graph_training.pairs import Pair, PairPlan, make_pairs, read_pairs, write_pairs
from floe.cluster.graph_training.report import NETWORK, areas
from floe.cluster.graph_training.rewrites import REWRITES
from floe.cluster.graph_training.similarities import edit_similarity, ngram_similarity
from floe.cluster.messages import Question
from floe.reward_service.graph.build import build
from floe.reward_service.graph.encoding import Encoder, Vocabulary
from floe.reward_service.graph.network import GraphMatchingNetwork, NetworkShape, distances
from floe.reward_service.graph.network_files import ABOUT_FILE, read_network
from floe.reward_service.graph.plan import parsed, resolved, schema_of
from tests.command_line import floe
from tests.score_requests import make_database

SCRIPT = """
CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, age INTEGER, country TEXT);
INSERT INTO singer VALUES (1,'Ann',3,'x'),(2,'Bob',4,'y'),(3,'Cy',5,'x'),(4,'Di',9,'z'),(5,'Eve',4,'y'),(6,'Flo',7,'x');
CREATE TABLE concert (cid INTEGER PRIMARY KEY, sid INTEGER, year INTEGER);
INSERT INTO concert VALUES (1,1,2000),(2,1,2001),(3,3,2001),(4,6,2002),(5,2,2000),(6,5,2003);
"""
TABLES = {
    "singer": {"id": "", "name": "", "age": "", "country": ""},
    "concert": {"cid": "", "sid": "", "year": ""},
}
SCHEMA = schema_of(TABLES)
AROUND = Surroundings({name: list(columns) for name, columns in TABLES.items()}, ("x", "y", "z"))
GOLDS = (
    "SELECT name FROM singer WHERE age BETWEEN 3 AND 5",
    "SELECT name FROM singer WHERE age >= 4 AND age <= 7",
    "SELECT name, age FROM singer WHERE country IN ('x', 'y') AND age > 3",
    "SELECT name FROM singer WHERE country = 'x' OR country = 'z'",
    "SELECT COUNT(*) FROM singer WHERE NOT country = 'x'",
    "SELECT country, COUNT(*) FROM singer GROUP BY country HAVING COUNT(*) > 1",
    "SELECT country, AVG(age) FROM singer GROUP BY country ORDER BY AVG(age) DESC LIMIT 1",
    "SELECT s.name FROM singer AS s JOIN concert AS c ON s.id = c.sid WHERE c.year = 2001",
    "SELECT DISTINCT s.country FROM singer AS s JOIN concert AS c ON s.id = c.sid WHERE c.year = 2001",
    "SELECT name FROM singer WHERE id IN (SELECT sid FROM concert WHERE year > 2000)",
    "SELECT name FROM singer WHERE age = (SELECT MAX(age) FROM singer)",
    "SELECT country FROM singer GROUP BY country",
    "SELECT id FROM singer INTERSECT SELECT sid FROM concert",
    "SELECT id FROM singer EXCEPT SELECT sid FROM concert WHERE year = 2001",
    "SELECT COUNT(DISTINCT country) FROM singer WHERE name LIKE '%o%'",
    "SELECT MAX(age), MIN(age) FROM singer ORDER BY 1",
    "SELECT COUNT(DISTINCT age), SUM(age) FROM singer",
    "SELECT s.name, c.year FROM singer AS s JOIN concert AS c ON s.id = c.sid",
    "SELECT name FROM singer ORDER BY age DESC LIMIT 2",
)


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("databases")
    for name in ("music", "stage"):
        make_database(folder, name, script=SCRIPT)
    return folder


def rows(databases: Path, sql: str) -> list[tuple]:
    connection = sqlite3.connect(databases / "music" / "music.sqlite")
    try:
        return sorted(connection.execute(sql).fetchall(), key=repr)
    finally:
        connection.close()


@pytest.mark.parametrize("name", REWRITES)
def test_a_rewrite_keeps_the_result(name: str, databases: Path) -> None:
    num_applied = 0
    for gold in GOLDS:
        tree = resolved(parsed(gold), SCHEMA.columns)
        before = tree.copy()
        found = REWRITES[name](tree.copy(), Random(1))
        assert tree == before
        if found is not None and found != tree:
            num_applied += 1
            assert rows(databases, found.sql("sqlite")) == rows(databases, gold), f"{gold} -> {found.sql('sqlite')}"
            build(found.sql("sqlite"), SCHEMA)
    assert num_applied, "no gold of this test shows it"


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_changes_a_result(name: str, databases: Path) -> None:
    num_changed = 0
    for gold in GOLDS:
        for seed in range(6):
            found = MUTATIONS[name](resolved(parsed(gold), SCHEMA.columns), Random(seed), AROUND)
            try:
                num_changed += found is not None and rows(databases, found.sql("sqlite")) != rows(databases, gold)
            except sqlite3.OperationalError:
                continue  # such a query makes no pair
    assert num_changed


def questions(*names: str) -> list[Question]:
    return [
        Question(question_id=f"{name}-{index}", database_id=name, text="?", gold_sql=(gold,))
        for name in names
        for index, gold in enumerate(GOLDS)
    ]


@pytest.fixture(scope="module")
def pairs(databases: Path) -> list[Pair]:
    plan = PairPlan(num_rewrites=4, num_mutations=4, seed=3)
    return make_pairs(questions("music", "stage"), databases, plan, lambda _: None)


@pytest.mark.heavy
def test_pairs_hold_what_execution_says(databases: Path, pairs: list[Pair], tmp_path: Path) -> None:
    kinds = Counter(pair.kind for pair in pairs)
    assert kinds["rewrite"] > 40 and kinds["mutation"] > 30 and kinds["other gold"] > 10
    for pair in pairs:
        if pair.is_equal:
            assert rows(databases, pair.gold) == rows(databases, pair.other), pair
    plan = PairPlan(num_rewrites=4, num_mutations=4, seed=3)
    assert make_pairs(questions("music", "stage"), databases, plan, lambda _: None) == pairs
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert read_pairs(tmp_path / "pairs.jsonl") == pairs


@pytest.fixture
def one_thread():
    """Use one thread: several would wait for each other longer than they compute while other tests run."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def small_network(vocabulary: Vocabulary) -> GraphMatchingNetwork:
    torch.manual_seed(1)
    shape = NetworkShape(
        num_kinds=len(vocabulary.kinds) + 1,
        num_roles=len(vocabulary.roles) + 1,
        dim=32,
        num_layers=2,
        name_dim=16,
        kind_dim=16,
        num_buckets=256,
        readout_dim=32,
        hidden_dim=32,
        embedding_dim=16,
    )
    return GraphMatchingNetwork(shape)


@pytest.mark.heavy
def test_training_improves_the_auc_on_an_unseen_database(pairs: list[Pair], one_thread: None) -> None:
    graphs = {sql: build(sql, SCHEMA).graph for pair in pairs for sql in (pair.gold, pair.other)}
    vocabulary = Vocabulary.of(graphs.values())
    encoder = Encoder(vocabulary)
    network = small_network(vocabulary)
    train = [pair for pair in pairs if pair.database_id == "music"]
    # The golds are those of the other database, but none of the queries made of them.
    known = {pair.other for pair in train}
    held = [pair for pair in pairs if pair.database_id == "stage" and pair.other not in known]
    is_equal = np.array([pair.is_equal for pair in held])

    def auc() -> float:
        encoded = [(encoder.encode(graphs[pair.gold]), encoder.encode(graphs[pair.other])) for pair in held]
        return weighted_auc(-np.array(distances(network, encoded)), is_equal, np.ones(len(held)))

    before = auc()
    examples = examples_of(train, lambda _, sql: encoder.encode(graphs[sql]))
    notes: list[str] = []
    plan = FitPlan(margin_epochs=6, supervised_epochs=6, pairs_per_batch=16, learning_rate=3e-3)
    fit(network, examples, plan, notes.append)
    assert auc() > max(before, 0.85)
    assert len(notes) == 12 and "supervised" in notes[-1]
    again = small_network(vocabulary)
    fit(again, examples, plan, notes.append)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_losses_by_hand() -> None:
    found = torch.tensor([0.2, 1.0, 1.0, 1.7])
    is_equal = torch.tensor([1.0, 1.0, 0.0, 0.0])
    # The loss is 0 within the margin of 1/2 around 1, otherwise how far inside it is.
    assert margin_loss(found, is_equal).item() == pytest.approx((0 + 0.5 + 0.5 + 0) / 4)
    assert supervised_loss(torch.tensor([0.5]), torch.tensor([1.0])).item() == pytest.approx(np.log(2))


def test_the_auc_is_the_rank_statistic() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 9, 200).astype(float)
    is_equal = rng.random(200) < 0.4
    statistic = mannwhitneyu(scores[is_equal], scores[~is_equal]).statistic
    expected = statistic / (is_equal.sum() * (~is_equal).sum())
    assert weighted_auc(scores, is_equal, np.ones(200)) == pytest.approx(expected)
    weights = rng.integers(0, 3, 200)
    drawn = np.repeat(np.arange(200), weights)
    repeated = weighted_auc(scores[drawn], is_equal[drawn], np.ones(len(drawn)))
    assert weighted_auc(scores, is_equal, weights) == pytest.approx(repeated)


def test_resamples_draw_whole_clusters() -> None:
    weights = resample_weights(["a", "a", "b", "c", "c"], 50, 1)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, 0] + weights[:, 2] + weights[:, 3] == 3).all()


@pytest.mark.heavy
def test_the_report_compares_on_the_same_pairs(pairs: list[Pair]) -> None:
    right = np.array([float(pair.is_equal) for pair in pairs])
    scores = {NETWORK: right, "nothing": np.zeros(len(pairs))}
    found = {(area.pairs, area.method): area for area in areas(pairs, scores, 100, 1)}
    assert found["all", NETWORK].auc == 1.0 and found["all", NETWORK].ahead is None
    nothing = found["all", "nothing"]
    assert (nothing.auc, nothing.low, nothing.high, nothing.ahead) == (0.5, 0.5, 0.5, 0.5)


def test_similarities_by_hand() -> None:
    assert ngram_similarity("SELECT a FROM t", "select A from t") == 1.0
    # Ten n-grams (4 + 3 + 2 + 1), of which those without the second token are the same: 3 + 1 + 0 + 0.
    assert ngram_similarity("SELECT a FROM t", "SELECT b FROM t") == pytest.approx(4 / 16)
    assert edit_similarity("SELECT a FROM t", "SELECT a FROM t") == 1.0
    assert 0 < edit_similarity("SELECT a FROM t", "SELECT b FROM t") < 1


def test_some_databases_are_held_out_and_some_are_not() -> None:
    names = [f"d{number}" for number in range(10)]
    held = held_out_databases(names, 0.2, 1)
    assert len(held) == 2 and held == held_out_databases(names[::-1], 0.2, 1)
    assert len(held_out_databases(["a", "b"], 0.9, 1)) == 1


SMALL = ("--max-golds", "4", "--rewrites", "2", "--mutations", "2", "--margin-epochs", "1", "--epochs", "0")


@pytest.mark.heavy
@pytest.mark.long
def test_the_command_trains_on_the_demo_and_keeps_its_pairs(tmp_path: Path) -> None:
    done = floe("train-graph-reward", "--out", str(tmp_path / "network"), *SMALL, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "graph matching network" in done.stdout and "token n-grams" in done.stdout and "AST edits" in done.stdout
    about = json.loads((tmp_path / "network" / ABOUT_FILE).read_text())
    assert 3_500_000 < about["num_parameters"] < 4_500_000
    assert set(about["training_databases"]).isdisjoint(about["held_out_databases"])
    read_network(tmp_path / "network")
    again = floe("train-graph-reward", "--out", str(tmp_path / "network"), *SMALL, home=tmp_path)
    assert again.returncode == 2 and "is there already" in again.stderr
    other = floe("train-graph-reward", "--out", str(tmp_path / "other"), "--json", *SMALL, home=tmp_path)
    assert other.returncode == 0 and "pairs made before" in other.stderr
    assert json.loads(other.stdout)["auc"] == about["auc"]
