"""Shares of right answers of a policy by question: the file `pass_rates.json` of prepared folders and of runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from floe.actors.questions.questions import read_text
from floe.configs.errors import UserError
from floe.configs.files.foreign_files import parsed_json
from floe.configs.files.whole_files import write_whole

PASS_RATES_FILE = "pass_rates.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRate:
    num_samples: int  # at least 1
    num_correct: int

    @property
    def share(self) -> float:
        return self.num_correct / self.num_samples

    def __add__(self, other: PassRate) -> PassRate:
        return PassRate(
            num_samples=self.num_samples + other.num_samples, num_correct=self.num_correct + other.num_correct
        )


def read_pass_rates(path: Path) -> dict[str, PassRate]:
    """Return the pass rates by question id. Raises UserError for a file that is not of this form."""
    try:
        rates = {name: PassRate(**fields) for name, fields in parsed_json(read_text(path, "pass rates file")).items()}
        for name, rate in rates.items():
            if not 0 <= rate.num_correct <= rate.num_samples or rate.num_samples < 1:
                raise ValueError(f"question {name} has {rate.num_correct} right of {rate.num_samples}")
    except (ValueError, TypeError, AttributeError) as fault:
        raise UserError(f"Can't read the pass rates in {path} ({fault}): measure them again.") from None
    return rates


def write_pass_rates(path: Path, rates: Mapping[str, PassRate]) -> None:
    """Write the file whole or not at all."""
    lines = (f"{json.dumps(name)}: {json.dumps(asdict(rate))}" for name, rate in sorted(rates.items()))
    write_whole(path, "{\n" + ",\n".join(lines) + "\n}\n")
