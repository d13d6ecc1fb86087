"""The pages of what the package offers from Python; their entries are the docstrings."""

from __future__ import annotations

from importlib import import_module

PYTHON_INTRODUCTION = """\
# Python

What `import floe` offers. A name is imported when it is asked for, so `import floe` itself is quick.
"""
PLUGINS_INTRODUCTION = """\
# What plug-ins keep to

What `floe.plugins` offers to those who write one: the types that floe hands over, and those that it takes back.
[A reward of your own](../plugins.md) is the guide.
"""
MODULE_OF_PLUGINS = "floe.plugins"


def python_page() -> str:
    """Return the page in Markdown, with an entry for each public name of the package."""
    return _page(PYTHON_INTRODUCTION, "floe")


def plugins_page() -> str:
    """Return the page in Markdown, with an entry for each type that plug-ins deal with."""
    return _page(PLUGINS_INTRODUCTION, MODULE_OF_PLUGINS)


def _page(introduction: str, module: str) -> str:
    return "\n".join([introduction, *(f"::: {module}.{name}\n" for name in public_names(module))])


def public_names(module: str) -> list[str]:
    """Return the names of `__all__`; without it, the classes and functions that the module itself defines."""
    found = import_module(module)
    if hasattr(found, "__all__"):
        return sorted(found.__all__)
    return [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
