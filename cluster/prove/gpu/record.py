"""Record of the parts that have been run on a card and their findings, so that a proof can be continued."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from floe.cluster.machine.card_figures import write_json
from floe.cluster.prove.gpu.findings import PartResult, Verdict
from floe.cluster.prove.gpu.parts import PARTS, Part, is_installed
from floe.configs.errors import UserError


@dataclass(slots=True)
class ProofRecord:
    """Results by part; every change is on the disk at once."""

    path: Path
    card: str
    results: dict[int, PartResult] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, card: str) -> ProofRecord:
        """Return the record; an empty one where there is no file.

        Raises UserError for a file that is not a record, or is another card's.
        """
        if not path.exists():
            return cls(path, card)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            results = {int(number): PartResult.of_record(one) for number, one in found["parts"].items()}
            named = found["card"]
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise UserError(
                f"{path} is not a record of a proof ({fault}): remove it, or give another with --out."
            ) from fault
        if named != card:
            raise UserError(f"{path} is a record of {named}, and this is {card}: give another with --out.")
        return cls(path, card, results)

    def done(self, part: Part, is_quick: bool) -> PartResult | None:
        """Return the result of a part that need not be run again: it has passed, with full sizes.

        A line that could not be run for want of packages is run once they are all installed.
        """
        found = self.results.get(part.number)
        if found is None or found.verdict is not Verdict.PASSED or (found.is_quick and not is_quick):
            return None
        return None if found.missing and all(is_installed(name) for name in found.missing) else found

    def note(self, part: Part, result: PartResult) -> None:
        self.results[part.number] = result
        parts = {str(number): self.results[number].record() for number in sorted(self.results)}
        write_json(self.path, {"card": self.card, "parts": parts})

    @property
    def figures(self) -> dict[str, float | str]:
        """Return the figures that all parts measured; of a number that two measured, the later part's."""
        found: dict[str, float | str] = {}
        for number in sorted(self.results):
            found |= self.results[number].figures
        return found

    def table(self) -> str:
        """Return the lines of every part that was run as a table in Markdown."""
        rows = ["| part | what | found | limit | |", "| --- | --- | --- | --- | --- |"]
        for part in PARTS:
            for line in self.results[part.number].lines if part.number in self.results else ():
                said = f"{line.verdict}{f': {line.why}' if line.why else ''}".replace("|", "/")
                rows.append(f"| {part.number} | {line.name} | {line.figure} | {line.limit} | {said} |")
        return "\n".join(rows) + "\n"
