"""Reads the speed of a card from the file that `make prove-gpu` leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from floe.cluster.machine.card_figures import figures_file
from floe.cluster.time_plan.card_time import MeasuredSpeed
from floe.cluster.time_plan.named_cards import NamedCard
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json

MAX_FLOP_PER_S, MAX_SHARE = 1e18, 2.0


def read_speed(home_dir: Path, card: NamedCard) -> MeasuredSpeed | None:
    """Return the speed of such a card; None where it was not measured.

    Raises UserError for a file that holds something else.
    """
    for name in card.driver_names:
        path = figures_file(home_dir, name)
        try:
            found = parsed_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as fault:
            raise _unusable(path, str(fault)) from fault
        if not isinstance(found, dict):
            raise _unusable(path, "it holds no figures by name")
        rate, share = found.get("matmul_flop_per_s"), found.get("learner_rate_share")
        if rate is None or share is None:
            continue
        if not (_is_number(rate) and 0 < rate < MAX_FLOP_PER_S and _is_number(share) and 0 < share < MAX_SHARE):
            raise _unusable(path, f"matmul_flop_per_s is {json.dumps(rate)}, learner_rate_share {json.dumps(share)}")
        measured_on = str(found.get("measured_on", "an unknown day"))
        return MeasuredSpeed(matmul_flop_per_s=float(rate), learner_share=float(share), measured_on=measured_on)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unusable(path: Path, why: str) -> UserError:
    return UserError(
        f"'{path}' does not hold what was measured on a GPU ({why}): delete it, or measure again with 'make prove-gpu'."
    )
