"""Makes one HTML document of a run's page, with its script, its style and Plotly inside."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from floe.cluster.evaluation.before_after_table import percent
from floe.cluster.messages import Outcome
from floe.cluster.report_page.figure_parts import plotly_source
from floe.cluster.report_page.figures import OUTCOME_COLOURS
from floe.cluster.report_page.rollout_sample import Kind
from floe.cluster.report_page.run_page import RunPage
from floe.cluster.report_page.script_json import script_json

PACKAGE = "floe.cluster.report_page"


def document(page: RunPage) -> str:
    """Return the HTML. All text of the run is escaped by the template or set by the script as text, never as markup.

    The document's content security policy lets nothing be loaded, and no other script run than these.
    """
    environment = Environment(
        loader=PackageLoader(PACKAGE, ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["percent"] = lambda interval, sign="-": percent(interval, sign).plain
    plots = [one for one in (*page.figures, page.policies) if one is not None]
    values = {
        **page.rollouts.values,
        "plots": {one.name: one.plot for one in plots if one.plot is not None},
        "colours": {outcome.value: colour for outcome, colour in OUTCOME_COLOURS.items()},
    }
    scripts = [plotly_source(), files(PACKAGE).joinpath("page.js").read_text(encoding="utf-8")]
    html = environment.get_template("page.html").render(
        page=page,
        outcomes=_counted_outcomes(page),
        kinds=[kind.value for kind in Kind],
        style=Markup(files(PACKAGE).joinpath("page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        policy="; ".join(
            [
                "default-src 'none'",
                "script-src " + " ".join(map(_source_hash, scripts)),
                "style-src 'unsafe-inline'",
                "img-src data: blob:",
            ]
        ),
        data=Markup(script_json(values)),
    )
    return html.encode("utf-8", "backslashreplace").decode("utf-8")


def _counted_outcomes(page: RunPage) -> list[str]:
    """Return the outcomes that occur among the groups shown, in their usual order."""
    found: set[str] = set()
    for group in page.rollouts.values["groups"]:
        found |= group["outcomes"].keys()
    return [outcome.value for outcome in Outcome if outcome.value in found]


def _source_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
