"""The code of a run's plug-ins as text to digest: a resume with other code would be another run."""

from __future__ import annotations

from pathlib import Path

from floe.configs.plugins.kinds import PluginKind
from floe.configs.plugins.making import source_files
from floe.configs.schema import RunConfig


def plugin_sources(config: RunConfig, kind: PluginKind | None = None) -> list[tuple[str, str]]:
    """Return name and code of each file of the plug-ins, or of those of one kind. Raises ConfigError and OSError."""
    found = []
    for one in config.plugins:
        if kind is not None and one.kind is not kind:
            continue
        files = source_files(one.kind, one.name, config.run.plugin_folder)
        top = files[0].parent if files else Path()
        for file in files:
            name = file.relative_to(top).as_posix() if file.is_relative_to(top) else file.name
            found.append((f"{one.kind.key}/{name}", file.read_text(encoding="utf-8", errors="surrogateescape")))
    return found
