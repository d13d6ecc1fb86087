"""The settings that `floe` takes from variables of the environment."""

from __future__ import annotations

import json
import os
from pathlib import Path

# PyTorch's own kernels, its oneDNN (matrix products) and its MKL (float32 matrix products) read these at their start.
MASKS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def environment_overrides() -> list[str]:
    """FLOE_HOME beats the file; an override on the command line beats both."""
    home = os.environ.get("FLOE_HOME")
    return [f"run.home={json.dumps(home)}"] if home else []  # JSON is YAML, and quotes what needs it


def logs_dir() -> Path:
    """For failures of commands that have no run folder."""
    return Path(os.environ.get("FLOE_HOME") or "~/.floe").expanduser() / "logs"


def visible_devices() -> str | None:
    """The GPUs that CUDA is allowed to see, as the user has named them; None for all."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def instruction_set_masks() -> dict[str, str]:
    """Return the variables that hold kernels to an older instruction set, where they are set."""
    return {name: os.environ[name] for name in MASKS if os.environ.get(name)}
