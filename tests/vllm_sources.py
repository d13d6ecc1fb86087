"""vLLM's sources read without importing them: those that are installed, or an unpacked wheel of another build.

`FLOE_VLLM_SOURCES=FOLDER` names the folder that has `vllm/` in it.
"""

from __future__ import annotations

import ast
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def sources() -> Path:
    if folder := os.environ.get("FLOE_VLLM_SOURCES"):
        return Path(folder)
    spec = find_spec("vllm")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent.parent


@cache
def module(name: str, root: Path) -> ast.Module:
    stem = root / name.replace(".", "/")
    path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def class_of(dotted: str, root: Path | None = None) -> ast.ClassDef:
    """Return a class by `package.module.Class`."""
    name, _, own = dotted.rpartition(".")
    found = [n for n in module(name, root or sources()).body if isinstance(n, ast.ClassDef) and n.name == own]
    assert found, f"{name} has no class {own}"
    return found[-1]


def functions_of(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """Return the methods by name; of an overloaded one the last, which is the one that is called."""
    return {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}


def attributes_of(node: ast.ClassDef) -> set[str]:
    """Return what the class itself declares or sets on `self`, its methods included."""
    names = set(functions_of(node))
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store) and ast.unparse(one.value) == "self":
            names.add(one.attr)
    for one in node.body:
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def parameters_of(function: ast.FunctionDef) -> list[str]:
    """Return the names without `self` or `cls`."""
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def bases_of(node: ast.ClassDef) -> set[str]:
    return {ast.unparse(base) for base in node.bases}
