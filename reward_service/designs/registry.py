"""The reward designs by name; a new one is a file of this folder, a section of the configuration and a line here."""

from __future__ import annotations

from pathlib import Path

from configs.reward_sections import RewardSection
from reward_service.designs.interface import Design


def make_design(section: RewardSection, databases_dir: Path) -> Design:
    """The design that the configuration names. Imports what that one needs. Raises UserError."""
    match section.design:
        case "arctic":
            from reward_service.designs import arctic

            return Design(rewards=arctic.Arctic(format_floor=section.arctic_format_floor))
        case "sql_r1":
            from reward_service.designs import sql_r1

            return Design(rewards=sql_r1.SqlR1(section.sql_r1_variant), semantics=sql_r1.SEMANTICS)
        case "proof":
            from reward_service.designs import proof

            return Design(rewards=proof.Proof())
    raise ValueError(f"reward.design is {section.design!r}, which has no line in the registry")
