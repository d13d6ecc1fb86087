"""`floe fields`: the fields of a configuration on the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from floe.cluster.terminal.shown_text import say
from floe.configs.errors import UserError


def fields(
    word: Annotated[
        str, typer.Argument(metavar="[WORD]", help="Part of a field's name or description; else all fields.")
    ] = "",
) -> None:
    """Print the fields of a configuration: what each is for, takes and defaults to, and if a resume may change it."""
    from floe.configs.files.field_facts import all_facts

    found = [one for one in all_facts() if word.casefold() in f"{one.key} {one.description}".casefold()]
    if not found:
        raise UserError(f"No field has {word!r} in its name or description: give another word, or none to see all.")
    for one in found:
        say(one.key)
        for line in filter(None, (one.description, f"value: {one.value}", f"default: {one.default}")):
            say(f"  {line}")
        say(f"  at a resume: {one.at_a_resume}")
