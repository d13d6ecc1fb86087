"""The reward designs by name; a new one is a file of this folder, fields of `reward` and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from floe.configs.plugins.kinds import REWARDS
from floe.configs.sections.reward_sections import RewardSection
from floe.reward_service.designs.interface import Design

if TYPE_CHECKING:  # designs that read nothing start faster without it
    from floe.reward_service.reading.contained_reader import ContainedReader

READER_MEMORY_BYTES = 2**30  # bytes of a child that parses, in addition to its program's


def make_design(section: RewardSection, databases_dir: Path, plugin_folder: Path | None = None) -> Design:
    """Make the design that the configuration names. Imports only what that design needs. Raises UserError.

    `plugin_folder` is where the module of a plug-in is looked for when it is not installed.
    """
    if REWARDS.is_plugin(section.design):
        from floe.reward_service.designs.plugin import plugin_design

        return plugin_design(section.design, section.arguments, plugin_folder)
    match section.design:
        case "arctic":
            from floe.reward_service.designs import arctic

            return Design(rewards=arctic.Arctic(format_floor=section.arctic_format_floor))
        case "sql_r1":
            from floe.reward_service.designs import sql_r1

            return Design(rewards=sql_r1.SqlR1(section.sql_r1_variant), semantics=sql_r1.SEMANTICS)
        case "reasoning_sql":
            return _reasoning_sql(section, databases_dir)
        case "graph_reward":
            return _graph_reward(section, databases_dir)
        case "proof":
            from floe.reward_service.designs import proof

            return Design(rewards=proof.Proof())
    raise ValueError(f"reward.design is {section.design!r}, which has no line in the registry")


def _reasoning_sql(section: RewardSection, databases_dir: Path) -> Design:
    from floe.reward_service.designs.reasoning_sql import ReasoningSql

    judge = None
    if section.asks_judge:
        from floe.reward_service.judge.judge import Judge

        judge = Judge(section)
    reader = _reader("parts", section, databases_dir)
    ask_judge = None if judge is None else judge.scores
    return Design(rewards=ReasoningSql(section, reader.read, ask_judge), reader=reader, judge=judge)


def _graph_reward(section: RewardSection, databases_dir: Path) -> Design:
    from floe.reward_service.designs.graph_reward import GraphReward

    weights = section.graph_outcome_weight, section.graph_stepwise_weight
    distances = None
    if section.graph_outcome_weight > 0:
        from floe.reward_service.graph.graph_distances import GraphDistances

        assert section.graph_network is not None  # the configuration refuses it
        distances = GraphDistances.read(section.graph_network.expanduser())
    reader = _reader("graph", section, databases_dir)
    extras_cost = section.graph_stepwise_variant == "precise"
    rewards = GraphReward(reader.read, distances, *weights, extras_cost=extras_cost)
    return Design(rewards=rewards, executes=False, reader=reader)


def _reader(form: str, section: RewardSection, databases_dir: Path) -> ContainedReader:
    from floe.reward_service.reading.contained_reader import ContainedReader

    return ContainedReader(form, databases_dir, section.design_time_limit_s, READER_MEMORY_BYTES)
