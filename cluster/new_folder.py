"""A folder that is made whole or not at all, and never over something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import UserError


def check_free(folder: Path) -> None:
    """Raises UserError unless the path is free, or an empty folder."""
    try:
        is_taken = folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir())))
    except OSError as fault:
        raise UserError(f"Can't look at {folder} ({fault.strerror}): choose another folder.") from fault
    if is_taken:
        raise UserError(f"{folder} is there already, and nothing is overwritten: choose another folder, or remove it.")


@contextmanager
def new_folder(folder: Path, num_bytes: int = 0) -> Iterator[Path]:
    """Yields a folder beside `folder`, which takes its name at the end, or is removed after a failure.

    `num_bytes` is about what will be written. Raises UserError for what is in the way, on disk or by permission.
    """
    check_free(folder)
    beside = folder.with_name(f"{folder.name}.writing-{os.getpid()}")
    try:
        beside.mkdir(parents=True)
        free_bytes = shutil.disk_usage(beside).free
        if free_bytes < num_bytes:
            raise UserError(
                f"{folder.parent} has {free_bytes / 1e9:.1f} GB of free space, {num_bytes / 1e9:.1f} GB are to be "
                "written: choose another folder, or free some."
            )
        yield beside
        check_free(folder)
        beside.rename(folder)
    except OSError as fault:
        raise UserError(f"Can't write {folder} ({fault.strerror or fault}): choose another folder.") from fault
    finally:
        shutil.rmtree(beside, ignore_errors=True)
