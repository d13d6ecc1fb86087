"""The page of every field of a configuration, made from the schema (pure)."""

from __future__ import annotations

from collections.abc import Iterator

from floe.cluster.docs_site.markdown_text import prose
from floe.configs.files.field_facts import FieldFacts, all_facts

INTRODUCTION = """\
# Every field of a configuration

A field is given in a file under its section, or as `section.field=value` after a command
([configurations](../configuration.md)). "At a resume" says what happens when `floe train --resume` finds another value
than the run began with.
"""


def configuration_page() -> str:
    """Return the page in Markdown: a heading for each section of the schema, and one for each of its fields."""
    parts, heading = [INTRODUCTION], ""
    for facts in all_facts():
        section = facts.key.partition(".")[0]
        if section != heading:
            parts.append(f"## {section}\n")
            heading = section
        parts += _field(facts)
    return "\n".join(parts)


def _field(facts: FieldFacts) -> Iterator[str]:
    yield f"### {facts.key} {{#{facts.key}}}\n"
    if facts.description:
        yield f"{prose(facts.description)}\n"
    yield f"- Value: {facts.value}\n- Default: {facts.default}\n- At a resume: {facts.at_a_resume}\n"
