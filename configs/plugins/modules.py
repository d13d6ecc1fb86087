"""Modules of plug-ins, imported; one that floe has imported is imported anew where its files have changed since."""

from __future__ import annotations

import hashlib
import sys
import threading
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

_LOCK = threading.Lock()  # workers' threads make plug-ins at the same time
_CODE: dict[str, str] = {}  # digest of the files of a top-level module, as they were imported


def is_missing(top: str, folder: Path | None) -> bool:
    """Return whether there is no such top-level module. `folder` becomes the last place where Python looks for one."""
    invalidate_caches()  # a file that was written a moment ago is found too
    if not _is_unknown(top):
        return False
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))  # last, so that none of the folder's files hides a library
    return _is_unknown(top)


def imported(module_name: str) -> ModuleType:
    """Return the module. Raises whatever its import raises."""
    top = module_name.partition(".")[0]
    with _LOCK:
        known = sys.modules.get(top)
        if known is None or top in _CODE:  # one that the program has imported itself is the program's
            if known is not None and _digest(files_of(known)) != _CODE[top]:
                for name in [one for one in sys.modules if one == top or one.startswith(f"{top}.")]:
                    del sys.modules[name]
            module = import_module(module_name)
            _CODE[top] = _digest(files_of(sys.modules[top]))
            return module
        return import_module(module_name)


def files_of(module: ModuleType) -> tuple[Path, ...]:
    """Return the Python files of a top-level module: its own, or all those of a package; none of a built-in one."""
    if getattr(module, "__file__", None):
        file = Path(str(module.__file__))
        return tuple(sorted(file.parent.rglob("*.py"))) if file.name == "__init__.py" else (file,)
    folders = getattr(module, "__path__", ())  # of a package without __init__.py, where a folder may stand twice
    return tuple(sorted({file for folder in folders for file in Path(folder).rglob("*.py")}))


def _digest(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"")
        digest.update(b"\0")
    return digest.hexdigest()


def _is_unknown(top: str) -> bool:
    if top in sys.modules:
        return False
    try:
        return find_spec(top) is None
    except (ImportError, ValueError):
        return True
