"""The reward designs by name; a new one is a file of this folder, fields of `reward` and a line here."""

from __future__ import annotations

from pathlib import Path

from configs.reward_sections import RewardSection
from reward_service.designs.interface import Design, RewardDesign


def make_design(section: RewardSection, databases_dir: Path) -> Design:
    """The design that the configuration names. Imports what that one needs. Raises UserError."""
    match section.design:
        case "arctic":
            from reward_service.designs import arctic

            return Design(rewards=arctic.Arctic(format_floor=section.arctic_format_floor))
        case "sql_r1":
            from reward_service.designs import sql_r1

            return Design(rewards=sql_r1.SqlR1(section.sql_r1_variant), semantics=sql_r1.SEMANTICS)
        case "reasoning_sql":
            return Design(rewards=_reasoning_sql(section, databases_dir))
        case "graph_reward":
            return Design(rewards=_graph_reward(section, databases_dir), executes=False)
        case "proof":
            from reward_service.designs import proof

            return Design(rewards=proof.Proof())
    raise ValueError(f"reward.design is {section.design!r}, which has no line in the registry")


def _reasoning_sql(section: RewardSection, databases_dir: Path) -> RewardDesign:
    from reward_service.designs.reasoning_sql import ReasoningSql
    from reward_service.schema_reader import SchemaReader

    read_schema = SchemaReader(databases_dir).schema
    if not section.asks_judge:
        return ReasoningSql(section, read_schema, None)
    from reward_service.judge import Judge

    return ReasoningSql(section, read_schema, Judge(section).scores)


def _graph_reward(section: RewardSection, databases_dir: Path) -> RewardDesign:
    from reward_service.designs.graph_reward import GraphReward

    weights = section.graph_outcome_weight, section.graph_stepwise_weight
    if section.graph_outcome_weight == 0:
        return GraphReward(databases_dir, None, *weights)
    from reward_service.graph.graph_distances import GraphDistances

    assert section.graph_network is not None  # the configuration refuses it
    return GraphReward(databases_dir, GraphDistances.read(section.graph_network.expanduser()), *weights)
