"""Prints pip's own settings as the environment variables through which uv takes them.

uv does not read pip's files and variables. The set-up runs this with the new environment's Python before it calls uv,
so that a private index, a folder of wheels, a constraint or a certificate that pip knows holds for uv as well.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping

# pip's name, uv's name, and the separator between several values for uv.
SETTINGS = (
    ("index-url", "UV_DEFAULT_INDEX", " "),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("constraint", "UV_CONSTRAINT", " "),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("no-index", "UV_NO_INDEX", " "),
    ("cert", "SSL_CERT_FILE", " "),
    ("client-cert", "SSL_CLIENT_CERT", " "),
    ("proxy", "ALL_PROXY", " "),
    ("timeout", "UV_HTTP_TIMEOUT", " "),
    ("default-timeout", "UV_HTTP_TIMEOUT", " "),
)
SECTIONS = ("global", "install", ":env:")  # a later one overrides an earlier one, as in pip


def uv_variables(pip_config_list: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return uv's variables for the lines that `pip config list` prints.

    A variable that `environment` already holds is left out: what was set for uv itself is meant for it.
    """
    found: dict[str, str] = {}
    for section in SECTIONS:
        for line in pip_config_list.splitlines():
            key, equals, text = line.partition("=")
            if equals and key.startswith(f"{section}."):
                found[key.removeprefix(f"{section}.")] = str(ast.literal_eval(text))
    variables: dict[str, str] = {}
    for name, variable, separator in SETTINGS:
        values = found.get(name, "").split()
        if values and variable not in environment and variable not in variables:
            variables[variable] = separator.join(values)
    return variables


def main() -> None:
    """Print `export NAME=VALUE` lines for a shell to evaluate."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    for name, value in uv_variables(listed, os.environ).items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
