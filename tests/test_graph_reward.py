"""The reward of Graph-Reward-SQL with totals by hand, its network, and folders that can't be used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from floe.cluster.messages import Candidate, Outcome, ScoreRequest
from floe.configs.errors import UserError
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.designs.graph_reward import GraphReward
from floe.reward_service.designs.interface import JudgedCandidate, JudgedGroup
from floe.reward_service.graph.build import build
from floe.reward_service.graph.encoding import Encoder, Vocabulary
from floe.reward_service.graph.graph_distances import GraphDistances
from floe.reward_service.graph.network import GraphMatchingNetwork, NetworkShape, distances
from floe.reward_service.graph.network_files import ABOUT_FILE, WEIGHTS_FILE, read_network, write_network
from floe.reward_service.graph.plan import schema_of
from floe.reward_service.graph.terms import OperatorGraph
from floe.reward_service.reading.forms import reader_of
from floe.reward_service.reading.schema_reader import SchemaReader
from floe.reward_service.scorer import Scorer
from floe.reward_service.unscorable import GoldUnusable, GroupUnscorable
from tests.score_requests import make_database

SCRIPT = "CREATE TABLE singer (id INTEGER, name TEXT, age INTEGER)"
SCHEMA = schema_of({"singer": {"id": "", "name": "", "age": ""}})
GOLD = "SELECT name FROM singer WHERE age > 3"
STEPPED = "WITH old AS (SELECT * FROM singer WHERE age > 3) SELECT name FROM old"
NEAR = "SELECT name FROM singer WHERE age > 4"
FAR = "SELECT COUNT(*) FROM singer"
UNKNOWN_COLUMN = "SELECT nam FROM singer"
BROKEN = "SELEC name"
QUERIES = (GOLD, STEPPED, NEAR, FAR)


def distance_by_size(pairs: Sequence[tuple[OperatorGraph, OperatorGraph]]) -> list[float]:
    """Return 0 for the same graph, 0.25 for as many nodes, otherwise 4."""
    return [0.0 if a == b else 0.25 if len(a.nodes) == len(b.nodes) else 4.0 for a, b in pairs]


def reading(databases: Path):
    """Read as the reader's child does, in this process."""
    schemas = SchemaReader(databases)

    def read(database_id: str, texts):
        one = reader_of("graph", schemas.schema(database_id))
        return {sql: one(sql) for sql in texts}

    return read


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    make_database(tmp_path, "music", script=SCRIPT)
    return tmp_path


def group_of(*sqls: str | None, golds: tuple[str, ...] = (GOLD,), database_id: str = "music") -> JudgedGroup:
    return JudgedGroup(
        question="who?",
        evidence="",
        database_id=database_id,
        gold_sql=golds,
        candidates=tuple(
            JudgedCandidate(outcome=Outcome.NO_SQL if sql is None else Outcome.NOT_EXECUTED, sql=sql, completion=None)
            for sql in sqls
        ),
    )


def test_totals_of_the_outcome_by_hand(databases: Path) -> None:
    design = GraphReward(reading(databases), distance_by_size, 1.0, 0.0)
    rewards = design(group_of(GOLD, STEPPED, NEAR, FAR, UNKNOWN_COLUMN, BROKEN, None))
    assert [reward.value for reward in rewards] == [1.0, 1.0, 0.75, 0.0, -0.6, -1.0, -1.0]
    assert rewards[0].terms == {"outcome": 1.0}


def test_totals_of_both_terms_by_hand(databases: Path) -> None:
    # The gold's pieces: scan, condition, column. NEAR has two of them and another condition, FAR one of its two.
    design = GraphReward(reading(databases), distance_by_size, 1.0, 0.5)
    rewards = design(group_of(GOLD, NEAR, FAR, BROKEN, UNKNOWN_COLUMN))
    assert [reward.value for reward in rewards] == pytest.approx([1.5, 0.75 + 2 / 9, 1 / 12, -1.0, -0.6])
    assert rewards[1].terms == pytest.approx({"outcome": 0.75, "stepwise": 2 / 9})


def test_what_the_gold_lacks_costs_and_as_published_does_not(databases: Path) -> None:
    kitchen_sink = (
        "SELECT DISTINCT id, name, age, id + 1, age + 1, id + 2, age + 2 FROM singer WHERE age > 3 ORDER BY id LIMIT 1"
    )
    precise, published = (
        GraphReward(reading(databases), None, 0.0, 1.0, extras_cost=extras_cost)(group_of(kitchen_sink, GOLD))
        for extras_cost in (True, False)
    )
    assert [reward.value for reward in published] == [1.0, 1.0]
    assert precise[0].value < 0.35 and precise[1].value == 1.0


def test_the_stepwise_term_alone_needs_no_network(databases: Path) -> None:
    section = RewardSection(design="graph_reward", graph_outcome_weight=0, graph_stepwise_weight=2)
    request = ScoreRequest(
        question_id="q",
        database_id="music",
        gold_sql=(GOLD,),
        candidates=tuple(Candidate(sql=sql) for sql in (STEPPED, NEAR, BROKEN, "DELETE FROM singer")),
    )
    with closing(Scorer(databases, section)) as scorer:
        scores = scorer.score(request)
        assert scorer.executor_pid == 0, "nothing may be run"
    assert [score.reward for score in scores] == pytest.approx([2, 8 / 9, 0, 0])
    assert scores[0].terms == {"stepwise": 2.0}
    assert [score.outcome for score in scores] == [Outcome.NOT_EXECUTED] * 3 + [Outcome.REJECTED]


def test_a_refused_statement_is_no_query(databases: Path) -> None:
    refused = JudgedCandidate(outcome=Outcome.REJECTED, sql="DELETE FROM singer", completion=None)
    group = group_of()
    design = GraphReward(reading(databases), distance_by_size, 1.0, 0.0)
    changed = JudgedGroup(
        question="", evidence="", database_id=group.database_id, gold_sql=(GOLD,), candidates=(refused,)
    )
    assert [reward.value for reward in design(changed)] == [-1.0]


def test_the_best_gold_counts_and_useless_ones_do_not(databases: Path) -> None:
    design = GraphReward(reading(databases), distance_by_size, 1.0, 0.0)
    rewards = design(group_of(GOLD, FAR, golds=(BROKEN, GOLD, UNKNOWN_COLUMN, FAR)))
    assert [reward.value for reward in rewards] == [1.0, 1.0]
    with pytest.raises(GoldUnusable, match="no gold becomes an operator graph"):
        design(group_of(GOLD, golds=(UNKNOWN_COLUMN,)))


def test_a_database_that_is_not_there_masks_the_group(databases: Path) -> None:
    design = GraphReward(reading(databases), distance_by_size, 1.0, 0.0)
    with pytest.raises(GroupUnscorable):
        design(group_of(GOLD, database_id="absent"))


def test_a_schema_that_changed_is_read_again(databases: Path) -> None:
    design = GraphReward(reading(databases), distance_by_size, 1.0, 0.0)
    assert [reward.value for reward in design(group_of(UNKNOWN_COLUMN))] == [-0.6]
    (databases / "music" / "music.sqlite").unlink()
    make_database(databases, "music", script=f"{SCRIPT}; ALTER TABLE singer ADD COLUMN nam TEXT")
    assert [reward.value for reward in design(group_of(UNKNOWN_COLUMN))] == [0.0]


def test_what_the_design_needs_is_asked_for() -> None:
    for settings, words in (
        ({}, "graph_network is not set"),
        ({"graph_outcome_weight": 0}, "both 0"),
        ({"graph_outcome_weight": 0, "graph_stepwise_weight": 1, "empty_gold": "skip"}, "empty_gold"),
    ):
        with pytest.raises(ValidationError, match=words):
            RewardSection.model_validate({"design": "graph_reward", **settings})


@pytest.fixture(scope="module")
def network() -> tuple[GraphMatchingNetwork, Vocabulary]:
    """Return a small network without training."""
    vocabulary = Vocabulary.of(build(sql, SCHEMA).graph for sql in QUERIES)
    torch.manual_seed(1)
    shape = NetworkShape(
        num_kinds=len(vocabulary.kinds) + 1,
        num_roles=len(vocabulary.roles) + 1,
        dim=16,
        num_layers=2,
        name_dim=8,
        kind_dim=8,
        num_buckets=64,
        readout_dim=16,
        hidden_dim=16,
        embedding_dim=8,
    )
    return GraphMatchingNetwork(shape).eval(), vocabulary


@pytest.fixture
def folder(tmp_path: Path, network: tuple[GraphMatchingNetwork, Vocabulary]) -> Path:
    path = tmp_path / "network"
    path.mkdir()
    write_network(path, *network, {"note": "a test's"})
    return path


def test_distances_do_not_depend_on_the_batch_or_the_order(network: tuple[GraphMatchingNetwork, Vocabulary]) -> None:
    model, vocabulary = network
    encoder = Encoder(vocabulary)
    graphs = [encoder.encode(build(sql, SCHEMA).graph) for sql in QUERIES]
    pairs = [(a, b) for a in graphs for b in graphs]
    together = distances(model, pairs)
    alone = [distances(model, [pair])[0] for pair in pairs]
    assert together == pytest.approx(alone, abs=1e-5)
    turned = distances(model, [(b, a) for a, b in pairs])
    assert together == pytest.approx(turned, abs=1e-5)
    assert all(value >= 0 for value in together)
    for a in range(len(QUERIES)):
        assert together[a * len(QUERIES) + a] == pytest.approx(0, abs=1e-5)
    assert together[3] > 1e-3, "GOLD and FAR have other graphs"


def test_a_written_network_is_the_one_that_is_read(
    folder: Path, network: tuple[GraphMatchingNetwork, Vocabulary]
) -> None:
    model, vocabulary = network
    read, encoder = read_network(folder)
    graphs = [build(sql, SCHEMA).graph for sql in QUERIES]
    pairs = [(a, b) for a in graphs for b in graphs]
    assert GraphDistances(read, encoder)(pairs) == GraphDistances(model, Encoder(vocabulary))(pairs)


def test_the_scorer_pays_by_the_network_of_the_folder(folder: Path, databases: Path) -> None:
    section = RewardSection(design="graph_reward", graph_network=folder)
    request = ScoreRequest(
        question_id="q",
        database_id="music",
        gold_sql=(GOLD,),
        candidates=tuple(Candidate(sql=sql) for sql in (STEPPED, NEAR, UNKNOWN_COLUMN, BROKEN)),
    )
    with closing(Scorer(databases, section)) as scorer:
        scores = scorer.score(request)
    expected = GraphDistances.read(folder)([(build(GOLD, SCHEMA).graph, build(NEAR, SCHEMA).graph)])[0]
    assert [score.reward for score in scores] == pytest.approx([1.0, max(0.0, 1 - expected), -0.6, -1.0])


def damage_weights(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(content)


def change_about(folder: Path, **values: object) -> None:
    about = json.loads((folder / ABOUT_FILE).read_text())
    (folder / ABOUT_FILE).write_text(json.dumps({**about, **values}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "can't be read"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), "can't be read"),
        (lambda folder: (folder / ABOUT_FILE).write_text("{"), "no JSON"),
        (lambda folder: (folder / ABOUT_FILE).write_text("[]"), "format"),
        (damage_weights, "damaged"),
        (lambda folder: change_about(folder, format=0), "format"),
        (lambda folder: change_about(folder, shape={"dim": 3}), "fit together"),
        (lambda folder: change_about(folder, vocabulary={"kinds": ["scan"]}), "fit together"),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, databases: Path, damage, words: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=words):
        Scorer(databases, RewardSection(design="graph_reward", graph_network=folder))
