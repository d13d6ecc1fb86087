"""Turns what is wrong with a configuration into one sentence that names the key, the value, the rule and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from floe.configs.schema import RunConfig

MAX_SHOWN_CHARACTERS = 80
TRUNCATED_SAMPLING = ("top_p", "top_k", "min_p")

CHOICES = ("enum", "literal_error")

RULES = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "extra_forbidden": "a field that there is",
    "model_attributes_type": "a mapping of fields to values",
    "model_type": "a mapping of fields to values",
    "dict_type": "a mapping of names to values",
    "float_parsing": "a number",
    "float_type": "a number",
    "enum": "{expected}",
    "finite_number": "a finite number",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "missing": "in a list that is long enough",
    "path_type": "a path",
    "string_too_long": "at most {max_length} characters",
    "string_type": "text",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "tuple_type": "a list",
}


def dotted_keys() -> tuple[str, ...]:
    """Return every `section.field` of the schema, in its order."""
    return tuple(f"{section}.{field}" for section in RunConfig.model_fields for field in fields_of(section))


def fields_of(section: str) -> Mapping[str, Any]:
    """Return the schema's fields of one section by name; empty for an unknown section."""
    info = RunConfig.model_fields.get(section)
    return {} if info is None or info.annotation is None else info.annotation.model_fields


def unknown_key(key: str, origin: str) -> str:
    """Return the sentence for a `section.field` or a lone word that is not in the schema."""
    section, dot, field = key.partition(".")
    if (field or section) in TRUNCATED_SAMPLING:
        return (
            f"'{key}' in {origin} is refused: candidates sampled from a cut-off distribution have other probabilities "
            "than the learner's ratio assumes; leave it out and set rollout.temperature alone."
        )
    nearest = max(dotted_keys(), key=lambda known: _closeness(section, field, known)) if dot else _nearest_to_word(key)
    return f"Unknown key '{key}' in {origin}: the nearest known key is '{nearest}'."


def wrong_value(error: ValidationError, origins: Mapping[str, str], default_origin: str) -> str:
    """Return the sentence for pydantic's first error and the number of others. `origins` says where a key was set."""
    first, *others = error.errors(include_url=False)
    of_union = [one for one in (first, *others) if one["loc"][:2] == first["loc"][:2] and one["type"] in CHOICES]
    if first in of_union and len(of_union) > 1:  # a field of several types has an error for each
        choices = " or ".join(one["ctx"]["expected"] for one in of_union)
        first = {**first, "loc": first["loc"][:2], "ctx": {"expected": choices}}
        others = [one for one in others if one not in of_union]
    more = f" ({len(others)} more wrong value{'s' * (len(others) > 1)} after this one)" if others else ""
    key = ".".join(str(part) for part in first["loc"][:2])
    if first["type"] == "value_error":
        rule_of_the_schema = str(first["ctx"]["error"]).rstrip(".")
        named = [override for key, override in origins.items() if key in rule_of_the_schema]
        return f"In {named[0] if named else default_origin}, {rule_of_the_schema}{more}."
    origin = origins.get(key, default_origin)
    rule = RULES.get(first["type"], "").format(**first.get("ctx", {})) or first["msg"]
    if first["type"] == "missing" and isinstance(first["loc"][-1], str):  # of a mapping in a list
        first, rule = {**first, "loc": first["loc"][:-1]}, f"a mapping with '{first['loc'][-1]}'"
    return value_sentence(first["loc"], first["input"], origin, rule, more)


def value_sentence(location: Sequence[str | int], received: Any, origin: str, rule: str, more: str = "") -> str:
    """Return `key is value in origin, but must be rule: remedy.`; a location of over two parts points into a list."""
    key = ".".join(str(part) for part in location[:2])
    entry = "".join(f" (entry {part})" for part in location[2:])
    return f"{key}{entry} is {shown(received)} in {origin}, but must be {rule}: {_remedy(key)}{more}."


def shown(value: Any) -> str:
    """Return a value as a person would recognise it, cut to a length that fits a sentence."""
    text = "empty" if value is None else " ".join(repr(value).split())
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def _remedy(key: str) -> str:
    section, _, field = key.partition(".")
    info = fields_of(section).get(field)
    if info is None:
        return f"see configs/schema.py for the fields of '{section}'"
    if info.default is None:
        return "correct it or leave it out"
    default = list(info.default) if isinstance(info.default, tuple) else info.default
    return f"correct it or leave it out for the default, {default}"


def _nearest_to_word(word: str) -> str:
    """Return a section, or the field of that name in any section."""
    section = max(RunConfig.model_fields, key=lambda known: _likeness(word, known))
    dotted = max(dotted_keys(), key=lambda known: _likeness(word, known.partition(".")[2]))
    return section if _likeness(word, section) >= _likeness(word, dotted.partition(".")[2]) else dotted


def _closeness(section: str, field: str, known: str) -> float:
    """Return how close a key is; its field counts twice as much, because a wrong section is the commoner slip."""
    known_section, _, known_field = known.partition(".")
    return _likeness(field, known_field) + 0.5 * _likeness(section, known_section)


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
