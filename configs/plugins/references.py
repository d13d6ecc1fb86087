"""References to plug-ins: `package.module:Name`, and what such a text may be (pure)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

from floe.configs.errors import UserError

REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
FORM = "package.module:Name"


def is_reference(text: str) -> bool:
    """Return whether the text has the form `package.module:Name`."""
    return REFERENCE.fullmatch(text) is not None


def reference_of(value: str | type | Callable[..., Any]) -> str:
    """Return the reference of a class or function; a text as it is.

    Raises UserError for what another process could not import: a lambda, an inner function, and what the main program
    or a notebook's cell defines.
    """
    if isinstance(value, str):
        return value
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not module or not name:
        raise UserError(
            f"{value!r} is no class and no function, so that no other process can import it: give a class with "
            f"arguments for it, or {FORM} as text."
        )
    if module in ("__main__", "__mp_main__"):
        raise UserError(
            f"{name} is defined in the main program or a notebook, which the workers and a later resume can't import: "
            "put it into a file of the working folder (in a notebook, a cell that begins with %%writefile "
            f"my_plugin.py), and give it as 'my_plugin:{name}'."
        )
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not value:
        raise UserError(
            f"{name} can't be found in its module {module}, as is so with a lambda or a function within another: "
            "define it at the top of a file."
        )
    return f"{module}:{name}"
