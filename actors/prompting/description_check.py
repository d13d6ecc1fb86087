"""Finds what is wrong with the column descriptions of BIRD's databases: CSV files, one for each table."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from floe.actors.prompting.description_files import description_files, read_description_file


def description_faults(folder: Path, tables: Collection[str]) -> list[str]:
    """Return a line, with file and row, for each fault of `<folder>/*.csv`. `tables` are the database's, empty when
    unknown.

    Rows are counted as a spreadsheet does: the header is row 1.
    """
    names = {table.casefold() for table in tables}
    faults = []
    for path in description_files(folder):
        if names and path.stem.strip().casefold() not in names:
            faults.append(f"{path}: the database has no table of this name")
        found = read_description_file(path)
        faults += [f"{path}, {fault}" for fault in (*found.remarks, *found.faults)]
    return faults
