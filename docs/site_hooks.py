"""Hooks of the site's builder: they add the pages that are made from the code."""

from __future__ import annotations

from pathlib import PurePosixPath

from properdocs.config.defaults import ProperDocsConfig
from properdocs.structure.files import File, Files

from floe.cluster.cli import app
from floe.cluster.docs_site.command_page import command_page
from floe.cluster.docs_site.configuration_page import configuration_page
from floe.cluster.docs_site.notebook_page import notebook_page
from floe.cluster.docs_site.python_pages import plugins_page, python_page


def on_files(files: Files, config: ProperDocsConfig) -> Files:
    """Add the pages of the folder `reference/`, and one for each notebook next to its file."""
    pages = {
        "reference/commands.md": command_page(app, "floe"),
        "reference/configuration.md": configuration_page(),
        "reference/python.md": python_page(),
        "reference/plugins.md": plugins_page(),
    }
    for file in files:
        if file.src_uri.endswith(".ipynb"):
            place = PurePosixPath(file.src_uri)
            pages[str(place.with_suffix(".md"))] = notebook_page(file.content_string, place.name)
    for address, text in pages.items():
        files.append(File.generated(config, address, content=text))
    return files
