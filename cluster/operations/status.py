"""`floe status`: where a run is, what it waits for, and whether its driver is alive."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from floe.cluster.run_folder.status import as_found, describe
from floe.cluster.run_folder.status_file import is_driver_alive, read_status
from floe.cluster.terminal.shown_text import say


def status(run_dir: Path, as_json: bool) -> None:
    """Print the status, as text or as JSON. Raises UserError for a folder without a run."""
    run_dir = run_dir.expanduser().resolve()
    written = read_status(run_dir)
    is_alive = is_driver_alive(written)
    found = as_found(written, is_alive)
    if as_json:
        print(json.dumps(asdict(found) | {"is_driver_alive": is_alive}, indent=2))
    else:
        say("\n".join(describe(found, run_dir, time.time(), is_alive)))
