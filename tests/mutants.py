"""Reports what `mutmut run` found: `python -m tests.mutants`, the end of `make mutants`.

A survivor is a change of the pure core that no test notices. tests/mutants_explained.toml says of each why that is
right; more than 5 % without a reason end this with 1.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

EXPLANATIONS = Path(__file__).with_name("mutants_explained.toml")
MAX_UNEXPLAINED_SHARE = 0.05
SURVIVED, UNTESTED, CRASHED = "survived", "no tests", "segfault"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: its file, the changed line as it reads then, and how the tests ended."""

    path: str
    line: str
    status: str


def found_mutants() -> list[Mutant]:
    """Return every mutant of the last run in mutants/."""
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code
    from mutmut.utils.file_utils import walk_mutatable_files

    found = []
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, exit_code in data.exit_code_by_key.items():
            status = status_by_exit_code[exit_code]
            line = changed_line(get_diff_for_mutant(name, path=path)) if status in (SURVIVED, UNTESTED) else ""
            found.append(Mutant(str(path), line, status))
    return found


def changed_line(diff: str) -> str:
    """Return the added lines of a unified diff as one."""
    added = [line[1:].strip() for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")]
    return " ".join(added)


def main() -> int:
    """Print how many mutants there are of each kind, then the survivors that nothing explains; return the exit code."""
    explained = tomllib.loads(EXPLANATIONS.read_text(encoding="utf-8"))
    found = found_mutants()
    counts = Counter(mutant.status for mutant in found)
    survivors = [mutant for mutant in found if mutant.status in (SURVIVED, UNTESTED)]
    unexplained = [mutant for mutant in survivors if mutant.line not in explained.get(mutant.path, {})]
    known = {(mutant.path, mutant.line) for mutant in survivors}
    stale = [(path, line) for path, lines in explained.items() for line in lines if (path, line) not in known]
    killed = len(found) - len(survivors)
    print(f"mutants: {len(found)} ({', '.join(f'{number} {status}' for status, number in sorted(counts.items()))})")
    print(f"killed: {killed} ({killed / max(len(found), 1):.1%}); survived: {len(survivors)}")
    print(f"survivors explained in {EXPLANATIONS.name}: {len(survivors) - len(unexplained)} of {len(survivors)}")
    for mutant in unexplained:
        print(f"  unexplained: {mutant.path}: {mutant.line}")
    for path, line in stale:
        print(f"  explained, but killed or gone: {path}: {line}")
    return int(not found or len(unexplained) > MAX_UNEXPLAINED_SHARE * max(len(survivors), 1))


if __name__ == "__main__":
    sys.exit(main())
