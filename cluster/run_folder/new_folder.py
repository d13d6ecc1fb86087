"""A folder that is made whole or not at all, and never over something else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from floe.configs.errors import UserError

OF_FILE_SYSTEM = "lost+found"  # name within an existing empty folder


def check_free(folder: Path, draft: str = "") -> None:
    """Raise UserError unless the path is free, or a folder that is empty but for the draft."""
    try:
        is_taken = folder.is_symlink() or (
            folder.exists()
            and (not folder.is_dir() or any(one.name not in (draft, OF_FILE_SYSTEM) for one in folder.iterdir()))
        )
    except OSError as fault:
        raise UserError(f"Can't look at {folder} ({fault.strerror}): choose another folder.") from fault
    if is_taken:
        raise UserError(f"{folder} is there already, and nothing is overwritten: choose another folder, or remove it.")


@contextmanager
def new_folder(folder: Path, num_bytes: int = 0) -> Iterator[Path]:
    """Yield a folder next to `folder`, which takes its name at the end, or is removed after a failure.

    In an existing empty folder, which may be a mount point, it lies within, and its contents move up. `num_bytes` is
    about what will be written. Raises UserError for an obstacle on disk or by permission.
    """
    check_free(folder)
    is_there = folder.is_dir()
    draft = folder / f".writing-{os.getpid()}" if is_there else folder.with_name(f"{folder.name}.writing-{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        free_bytes = shutil.disk_usage(draft).free
        if free_bytes < num_bytes:
            raise UserError(
                f"{draft.parent} has {free_bytes / 1e9:.1f} GB of free space, {num_bytes / 1e9:.1f} GB are to be "
                "written: choose another folder, or free some."
            )
        yield draft
        check_free(folder, draft.name)
        if is_there:
            _move_up(draft)
        else:
            draft.rename(folder)
    except OSError as fault:
        raise UserError(f"Can't write {folder} ({fault.strerror or fault}): choose another folder.") from fault
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _move_up(draft: Path) -> None:
    """Move the contents up. Raises OSError, and takes back what it has moved."""
    names = sorted(one.name for one in draft.iterdir())
    try:
        for name in names:
            (draft / name).rename(draft.parent / name)
    except OSError:
        for name in names:
            if (draft.parent / name).exists() and not (draft / name).exists():
                (draft.parent / name).rename(draft / name)
        raise
