"""Reads an answer by the form of the run's prompt style: the thought, and where the answer ends (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from floe.actors.prompting.prompt_style import PromptStyle
from floe.configs.errors import ConfigError

_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9_-]*>")
_SQL, _READS = "SELECT 1 AS floe_form", "floe reads"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAnswer:
    thought: str  # without surrounding space
    text: str  # up to the end of the last tag


@dataclass(frozen=True, slots=True)
class ThoughtForm:
    """Tags of a style's answers in their order, e.g. `<think> </think> <answer> </answer>`."""

    tags: tuple[str, ...]
    thoughts: tuple[int, ...]  # numbers of the tags that open a thought

    @classmethod
    def of(cls, style: PromptStyle, name: str) -> ThoughtForm:
        """Return the form of the answer that the style teaches. Raises ConfigError for a style without a thought."""
        text = style.prefill + style.answer(_SQL, _READS)
        found = list(_TAG.finditer(text))
        place = text.find(_SQL)
        thoughts = tuple(
            number
            for number, (tag, following) in enumerate(pairwise(found))
            if following.group() == f"</{tag.group()[1:]}" and following.start() < place
        )
        if not thoughts:
            raise ConfigError(
                f"warm_start.source is 'traces', but the answers of prompt.style {name!r} have no thought in tags "
                "before their SQL, as in <think>...</think>: use such a style, or set warm_start.source=golds"
            )
        return cls(tuple(tag.group() for tag in found), thoughts)

    def read(self, text: str) -> ReadAnswer | None:
        """Return the parts of an answer, prefill included; None for one in another form.

        Each tag has to be there once and in order, with nothing in front of the first or between two parts.
        """
        found = [one for one in _TAG.finditer(text) if one.group() in self.tags]
        if tuple(one.group() for one in found) != self.tags:
            return None
        gaps = [text[: found[0].start()]]
        parts = {}
        for number, (tag, following) in enumerate(pairwise(found)):
            between = text[tag.end() : following.start()]
            if tag.group().startswith("</"):
                gaps.append(between)
            parts[number] = between
        if any(gap.strip() for gap in gaps):
            return None
        thought = "\n".join(parts[number].strip() for number in self.thoughts)
        return ReadAnswer(thought=thought.strip(), text=text[: found[-1].end()])
