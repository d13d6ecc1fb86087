"""Hooks of the site's builder: they add the pages that are made from the code."""

from __future__ import annotations

from properdocs.config.defaults import ProperDocsConfig
from properdocs.structure.files import File, Files

from floe.cluster.cli import app
from floe.cluster.docs_site.command_page import command_page
from floe.cluster.docs_site.configuration_page import configuration_page
from floe.cluster.docs_site.python_pages import plugins_page, python_page


def on_files(files: Files, config: ProperDocsConfig) -> Files:
    """Add the pages of the folder `reference/`."""
    pages = {
        "commands": command_page(app, "floe"),
        "configuration": configuration_page(),
        "python": python_page(),
        "plugins": plugins_page(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files
