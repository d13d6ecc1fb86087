"""`floe report`: one HTML page of a run, from the files of its folder."""

from __future__ import annotations

import os
import time
import webbrowser
from pathlib import Path

from floe.cluster.report_page.collect import collect_page
from floe.cluster.report_page.document import document
from floe.cluster.run_folder.file_names import PAGE_FILE
from floe.cluster.terminal.shown_text import say
from floe.configs.errors import UserError


def report(run_dir: Path, out: Path | None, opens: bool) -> None:
    """Write the page and print where. Raises UserError as `written_page` does."""
    path = written_page(run_dir, out)
    say(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    if opens and not webbrowser.open(path.as_uri()):
        say("No browser could be opened: open the file by hand.")


def written_page(run_dir: Path, out: Path | None) -> Path:
    """Write the page and return its path; without `out` it is in the run's folder.

    Raises UserError for a folder without a run, and where it can't be written.
    """
    run_dir = run_dir.expanduser().resolve()
    path = run_dir / PAGE_FILE if out is None else out.expanduser().resolve()
    html = document(collect_page(run_dir, time.time()))
    draft = path.with_name(f"{path.name}.draft")
    try:
        draft.write_text(html, encoding="utf-8")
        os.replace(draft, path)
    except OSError as fault:
        raise UserError(f"Can't write {path} ({fault.strerror}): choose another --out.") from fault
    return path
