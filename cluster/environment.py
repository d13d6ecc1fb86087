"""Settings that `floe` takes from environment variables."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from floe.cluster.contained.own_code import with_own_code
from floe.configs.files.yaml_text import flow_text

# PyTorch's own kernels, its oneDNN (matrix products) and its MKL (float32 matrix products) read these at their start.
MASKS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def environment_overrides() -> list[str]:
    """Return the overrides: FLOE_HOME replaces the file's value, and an override on the command line replaces both."""
    home = os.environ.get("FLOE_HOME")
    return [f"run.home={flow_text(home)}"] if home else []


def home_folder() -> Path:
    """Return `run.home` where no configuration names another."""
    try:
        return Path(os.environ.get("FLOE_HOME") or "~/.floe").expanduser()
    except RuntimeError:  # neither HOME nor an entry of the user says where it is
        return Path(tempfile.gettempdir()) / "floe"


def logs_dir() -> Path:
    """Return the folder for failures of commands that have no run folder."""
    return home_folder() / "logs"


def environment_of_floe() -> dict[str, str]:
    """Return this process's variables, for a process that is to behave as this one."""
    return with_own_code(os.environ)


def ray_address() -> str:
    """Return the address in RAY_ADDRESS, as a Ray job sets it; empty where it has none."""
    return os.environ.get("RAY_ADDRESS", "")


def ray_temp_folder() -> tuple[str, Path]:
    """Return the folder below which a Ray of this machine puts its own, and the variable that sets it, if one does."""
    found = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "")
    return found, Path(os.environ[found] if found else "/tmp")


def has_ray_token() -> bool:
    """Return whether the environment gives a starting Ray its token, or says that it takes none."""
    is_off = os.environ.get("RAY_AUTH_MODE", "token").lower() != "token"
    return is_off or any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))


def visible_devices() -> str | None:
    """Return the GPUs that CUDA is allowed to see, as the user has named them; None for all."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def instruction_set_masks() -> dict[str, str]:
    """Return the variables that hold kernels to an older instruction set, where they are set."""
    return {name: os.environ[name] for name in MASKS if os.environ.get(name)}
