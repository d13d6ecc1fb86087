"""The page of every command, made from the command line's own help (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from floe.cluster.docs_site.markdown_text import code, prose

INTRODUCTION = """\
# Every command

What `--help` prints for each command. [Commands](../commands.md) shows how they are used together.
"""


def command_page(app: typer.Typer, name: str) -> str:
    """Return the page in Markdown, with a heading and the help of each command that is not hidden, below `name`."""
    command = typer.main.get_command(app)
    return "\n".join([INTRODUCTION, *_sections(command, typer.Context(command, info_name=name))])


def _sections(command: Any, context: typer.Context) -> Iterator[str]:
    """Yield the section of the command and those of the commands below it."""
    yield f"## {context.command_path}\n"
    yield f"{prose(_paragraphs(command.help))}\n"
    yield f"```text\n{_usage(command, context)}\n```\n"
    records = [param.get_help_record(context) for param in command.get_params(context)]
    yield "".join(f"- {code(name)}: {prose(what)}\n" for name, what in filter(None, records))
    below = [one for one in getattr(command, "commands", {}).values() if not one.hidden]
    for one in below:
        yield from _sections(one, typer.Context(one, info_name=one.name, parent=context))


def _usage(command: Any, context: typer.Context) -> str:
    return " ".join(command.get_usage(context).removeprefix("Usage:").split())


def _paragraphs(text: str) -> str:
    """Return the text with each paragraph in one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
