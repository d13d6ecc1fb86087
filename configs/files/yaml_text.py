"""Reads YAML as it looks: numbers and switches of YAML 1.2, no key twice, and aliases that stay small."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import yaml

MAX_DIGITS = 400  # a float holds numbers of 309
MAX_CHARACTERS = 1_000_000  # of a document whose aliases are written out
# What YAML takes for a line break, or for no text at all, unless it is escaped.
ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
MERGE_KEY = "tag:yaml.org,2002:merge"

# The core schema of YAML 1.2 (10.3.2): each kind's expression and its possible first characters.
CORE_SCHEMA = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


class PlainLoader(yaml.SafeLoader):
    """Reads 010 as ten, and 1:30, yes and 2026-11-30 as text.

    A repeated key is refused, where YAML would silently keep the last. Aliases are refused too when, written out, they
    would be larger than any configuration: aliases of aliases can stand for gigabytes.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._num_characters = 0
        self._sizes: dict[int, int] = {}  # characters by the identity of a node that is whole

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        alias = None
        if self.check_event(yaml.AliasEvent):
            alias = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML has none for it
        before = self._num_characters
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if alias is None:
            self._num_characters += 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
            self._sizes[id(node)] = self._num_characters - before
            return node
        line = alias.start_mark.line + 1
        if id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, f"line {line} has an alias of what it stands in", None)
        self._num_characters += self._sizes[id(node)]
        if self._num_characters > MAX_CHARACTERS:
            raise yaml.composer.ComposerError(
                None, None, f"line {line} has an alias that would make more of it than a configuration can be", None
            )
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key_node, _ in node.value:
            name = (key_node.tag, str(key_node.value))
            if name in seen:
                line = key_node.start_mark.line + 1
                raise yaml.composer.ComposerError(
                    None, None, f"line {line} repeats the key '{key_node.value}'", key_node.start_mark
                )
            seen.add(name)
        return node


def _whole_number(loader: PlainLoader, node: yaml.ScalarNode) -> int | str:
    """Return a number; one with more digits than any field takes stays text, for the schema to refuse."""
    text = str(loader.construct_scalar(node))
    if len(text) > MAX_DIGITS:
        return text
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


PlainLoader.yaml_implicit_resolvers = {}  # those of YAML 1.1
PlainLoader.add_constructor("tag:yaml.org,2002:int", _whole_number)
PlainLoader.add_implicit_resolver(MERGE_KEY, re.compile(r"^<<$"), ["<"])


class PlainDumper(yaml.SafeDumper):
    """Writes every value out, and quotes each text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind, (_expression, _first_characters) in CORE_SCHEMA.items():
    for _class in (PlainLoader, PlainDumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_expression})$"), _first_characters
        )


def read_yaml(text: str) -> Any:
    """Return the document's value. Raises YAMLError, ValueError or RecursionError."""
    return yaml.load(text, Loader=PlainLoader)


def flow_text(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Return one line that `read_yaml` reads as the value; `default` gives plain values for those of other types.

    Raises TypeError and ValueError for what YAML would not give back.
    """
    # JSON is YAML, but for its escapes of characters beyond U+FFFF, each of which YAML reads as two halves.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=default)
    return ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def yaml_reason(error: Exception) -> str:
    """Return what is wrong with a document, and in which line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    reason = " ".join(str(problem or error).split())
    return reason if mark is None or reason.startswith("line ") else f"line {mark.line + 1}: {reason}"
