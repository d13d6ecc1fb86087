"""The settings that `floe` takes from variables of the environment."""

from __future__ import annotations

import json
import os


def environment_overrides() -> list[str]:
    """FLOE_HOME beats the file; an override on the command line beats both."""
    home = os.environ.get("FLOE_HOME")
    return [f"run.home={json.dumps(home)}"] if home else []  # JSON is YAML, and quotes what needs it
