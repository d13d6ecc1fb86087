"""Finds, checks and makes plug-ins; all that can be wrong with one is a ConfigError of one sentence."""

from __future__ import annotations

import difflib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from floe.configs.errors import ConfigError, first_line
from floe.configs.plugins import modules
from floe.configs.plugins.kinds import PluginKind
from floe.configs.plugins.modules import files_of, imported, is_missing

MAX_SHOWN_CHARACTERS = 200
PLAIN_TYPES: dict[Any, tuple[type, ...]] = {bool: (bool,), float: (float, int), int: (int,), str: (str,)}
OWN_FILES = (__file__, modules.__file__)


def made(kind: PluginKind, name: str, arguments: Mapping[str, Any], folder: Path | None) -> Any:
    """Return what the plug-in gives: an object of the class with these arguments, or the function with them bound.

    `folder` is where its module is looked for when no installed package has it. Raises ConfigError.
    """
    found = target(kind, name, folder)
    if inspect.isclass(found) or (inspect.isroutine(found) and not kind.is_function):
        _check_arguments(kind, found, arguments, num_given=0)
        found = _called(kind, name, found, arguments)
    elif inspect.isroutine(found):
        _check_arguments(kind, found, arguments, num_given=1)
        found = partial(found, **arguments) if arguments else found
    elif arguments:
        raise ConfigError(
            f"{kind.key} is {name!r}, which is made already, so that nothing takes {kind.arguments_key} "
            f"{_shown(arguments)}: leave them out, or name a class."
        )
    if lacking := [one for one in kind.needs if not hasattr(found, one)]:
        raise ConfigError(
            f"{kind.key} is {name!r}, which is no {kind.what} (it has no {', '.join(lacking)}): give {kind.form}."
        )
    return found


def _called(kind: PluginKind, name: str, found: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return found(**arguments)
    except (Exception, SystemExit) as fault:
        raise ConfigError(
            f"{kind.key} is {name!r}, and {found.__name__} refuses {kind.arguments_key} {_shown(arguments)} "
            f"({type(fault).__name__}: {first_line(fault)}{_place(fault)}): correct them, or the class."
        ) from fault


def target(kind: PluginKind, name: str, folder: Path | None) -> Any:
    """Return the class or function that the name means. Raises ConfigError."""
    module_name, _, path = _reference(kind, name).partition(":")
    found: Any = _module(kind, name, module_name, folder)
    for part in path.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, [one for one in dir(found) if not one.startswith("_")], n=1)
            file = getattr(found, "__file__", None)
            hint = f"the nearest is {near[0]!r}" if near else f"see {file}" if file else "correct the name"
            raise ConfigError(f"{kind.key} is {name!r}, but {module_name} has no {part!r}: {hint}.")
        found = getattr(found, part)
    return found


def source_files(kind: PluginKind, name: str, folder: Path | None) -> tuple[Path, ...]:
    """Return the Python files of the plug-in: of its whole package, or its one module. Raises ConfigError.

    Those of the package that the name begins with, and of the one that defines what is found there: a function of a
    library with arguments bound to it is as much the work of the first.
    """
    found = target(kind, name, folder)
    modules_of = (_reference(kind, name).partition(":")[0], getattr(found, "__module__", None) or "")
    tops = dict.fromkeys(one.partition(".")[0] for one in modules_of)
    own = [one for one in tops if one not in sys.stdlib_module_names and one in sys.modules]
    return tuple(dict.fromkeys(file for one in own for file in files_of(sys.modules[one])))


def _reference(kind: PluginKind, name: str) -> str:
    """Return `package.module:Name`, of an entry point its value. Raises ConfigError."""
    offers = [] if ":" in name else kind.entry_points(name)
    if len({one.value for one in offers}) > 1:
        packages = ", ".join(f"{one.value} of {one.dist.name if one.dist else '?'}" for one in offers)
        raise ConfigError(
            f"{kind.key} is {name!r}, which more than one installed package offers ({packages}): name the one that "
            "is meant in that form."
        )
    if not offers and ":" not in name:
        raise ConfigError(
            f"{kind.key} is {name!r}, which no installed package offers (entry points {kind.group}): install the one "
            "that does."
        )
    return offers[0].value if offers else name


def _module(kind: PluginKind, name: str, module_name: str, folder: Path | None) -> ModuleType:
    """Import the module, with `folder` as the last place to look."""
    top = module_name.partition(".")[0]
    if is_missing(top, folder):
        places = f" and none in {folder}" if folder is not None else ""
        raise ConfigError(
            f"{kind.key} is {name!r}, but there is no module {top!r} among the installed packages{places}: install its "
            f"package, or put {top}.py into the working folder or the one that run.plugin_folder names."
        )
    try:
        return imported(module_name)
    except ModuleNotFoundError as fault:
        if fault.name is not None and (module_name == fault.name or module_name.startswith(f"{fault.name}.")):
            remedy = "leave out .py" if module_name.endswith(".py") else "correct the name"
            raise ConfigError(
                f"{kind.key} is {name!r}, but there is no module {fault.name!r} in {top!r}: {remedy}."
            ) from None
        raise ConfigError(_import_failed(kind, name, module_name, fault)) from fault
    except (Exception, SystemExit) as fault:
        raise ConfigError(_import_failed(kind, name, module_name, fault)) from fault


def _import_failed(kind: PluginKind, name: str, module_name: str, fault: BaseException) -> str:
    return (
        f"{kind.key} is {name!r}, but importing {module_name} fails ({type(fault).__name__}: {first_line(fault)}"
        f"{_place(fault)}): correct the module, or install what it imports."
    )


def _place(fault: BaseException) -> str:
    """Return file and line where the error arose, as ` at FILE:LINE`; of a syntax error the file's own line."""
    if isinstance(fault, SyntaxError) and fault.filename:
        return f" at {fault.filename}:{fault.lineno}"
    frames = traceback.extract_tb(fault.__traceback__)
    inner = [one for one in frames if not one.filename.startswith("<frozen") and one.filename not in OWN_FILES]
    return f" at {inner[-1].filename}:{inner[-1].lineno}" if inner else ""


def _check_arguments(kind: PluginKind, found: Callable[..., Any], arguments: Mapping[str, Any], num_given: int) -> None:
    """Raise ConfigError where a call with `num_given` values and the arguments would fail."""
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return  # written in C: its own error says what is wrong
    try:
        signature.bind(*[None] * num_given, **arguments)
    except TypeError as fault:
        own = [str(one) for one in list(signature.parameters.values())[num_given:]]
        if num_given and not arguments:
            raise ConfigError(
                f"{kind.key} is a function that can't be called as a {kind.what} is ({first_line(fault)}): give "
                f"{kind.form}; this one takes {', '.join(map(str, signature.parameters.values())) or 'nothing'}."
            ) from None
        raise ConfigError(
            f"{kind.arguments_key} is {_shown(arguments)}, which {getattr(found, '__name__', found)} does not take "
            f"({first_line(fault)}): it takes {', '.join(own) or 'none'}."
        ) from None
    _check_types(kind, found, arguments)


def _check_types(kind: PluginKind, found: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise ConfigError for a value of another type than a plain annotation of the argument names."""
    try:
        hints = get_type_hints(found.__init__ if inspect.isclass(found) else found)
    except Exception:  # an annotation that can't be read says nothing
        return
    for name, value in arguments.items():
        allowed = PLAIN_TYPES.get(hints.get(name))
        if allowed is not None and (
            not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
        ):
            raise ConfigError(
                f"{kind.arguments_key}.{name} is {_shown(value)}, but {getattr(found, '__name__', found)} takes a "
                f"{hints[name].__name__} there: correct it."
            )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"
