"""The page of a notebook, made from its file (pure)."""

from __future__ import annotations

import json


def notebook_page(text: str, name: str) -> str:
    """Return the notebook `text` (nbformat 4) in Markdown: its cells in their order, without outputs.

    `name` is the file's, which lies next to the page.
    """
    cells = json.loads(text)["cells"]
    shown = [_cell(cell["cell_type"], "".join(cell["source"]).strip()) for cell in cells]
    first, *others = filter(None, shown)
    return "\n\n".join([first, f"[The notebook itself]({name}) can be opened in Jupyter or Colab.", *others, ""])


def _cell(kind: str, source: str) -> str:
    if not source:
        return ""
    if kind == "markdown":
        return source
    return f"```python\n{source}\n```" if kind == "code" else f"```text\n{source}\n```"
