"""Every field of the schema with every odd value, as an override and in a file: `python -m tests.config_walk`."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from floe.configs.errors import ConfigError
from floe.configs.files.complaints import dotted_keys
from floe.configs.files.loading import load_config
from floe.configs.files.yaml_text import PlainDumper, read_yaml
from floe.configs.schema import RunConfig

ODD_VALUES = {  # YAML
    "text": "some words",
    "a list": "[1, 2]",
    "a mapping": "{a: 1}",
    "a switch": "true",
    "yes": "yes",
    "zero": "0",
    "a negative number": "-1",
    "a negative share": "-0.5",
    "NaN": ".nan",
    "infinity": ".inf",
    "minus infinity": "-.inf",
    "a huge number": "1e300",
    "a huge whole number": "9" * 300,
    "thousands of digits": "9" * 5000,
    "a tiny number": "1e-300",
    "a fraction": "1.5",
    "null": "null",
    "nothing": "",
    "an empty text": "''",
    "blanks": "'  '",
    "an empty list": "[]",
    "Python's None": "None",
    "a time of day": "1:30",
    "a long text": "x" * 5000,
    "NUL": '"a\\0b"',
    "half a character": '"\\ud800"',
    "nobody's home": "~nobody-of-that-name/x",
}
SENTENCE = re.compile(r"^[^\n]{20,900}\.$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    key: str
    what: str  # of ODD_VALUES
    where: str  # "an override" or "a file"
    config: RunConfig | None  # where it was accepted
    refusal: str

    @property
    def value(self) -> Any:
        section, _, field = self.key.partition(".")
        return getattr(getattr(self.config, section), field)


def trials_of(section: str, folder: Path) -> Iterator[Trial]:
    """Try every odd value in each field of the section. Any other exception than ConfigError passes through."""
    path = folder / "odd.yaml"
    for key in (key for key in dotted_keys() if key.startswith(f"{section}.")):
        for what, text in ODD_VALUES.items():
            yield _trial(key, what, "an override", None, [f"{key}={text}"])
            path.write_text(f"{section}:\n  {key.partition('.')[2]}: {text}\n")
            yield _trial(key, what, "a file", path, [])


def _trial(key: str, what: str, where: str, path: Path | None, overrides: list[str]) -> Trial:
    config, refusal = None, ""
    try:
        config = load_config(path, overrides)
    except ConfigError as fault:
        refusal = str(fault)
    return Trial(key=key, what=what, where=where, config=config, refusal=refusal)


def fault_of(trial: Trial) -> str | None:
    """Return how the value was wrongly taken; None where it was refused in a sentence, or is a sane one."""
    if trial.config is None:
        is_told = SENTENCE.match(trial.refusal) and trial.key in trial.refusal
        return None if is_told else f"the refusal is {trial.refusal!r}"
    value = trial.value
    entries = value if isinstance(value, tuple) else (value,)
    for one in entries:
        if isinstance(one, int | float) and not -1e-9 <= one <= 2**50:
            return f"{one} is taken"
        if isinstance(one, str) and not one.isprintable():
            return f"{one!r} is taken"
        if isinstance(one, Path) and not (one.is_absolute() or one == Path("~/.floe")):
            return f"the relative path {one} is taken"
    plain = trial.config.model_dump(mode="json")
    section, _, field = trial.key.partition(".")
    written = yaml.dump(plain[section][field], Dumper=PlainDumper)
    return None if read_yaml(written) == plain[section][field] else f"{value!r} is written as {written!r}"


def main() -> None:
    num_accepted = num_refused = 0
    with tempfile.TemporaryDirectory() as folder:
        for section in RunConfig.model_fields:
            for trial in trials_of(section, Path(folder)):
                if fault := fault_of(trial):
                    print(f"{trial.key}, {trial.what} in {trial.where}: {fault}")
                num_accepted += trial.config is not None
                num_refused += trial.config is None
    num_fields = len(dotted_keys())
    print(f"{num_fields} fields, {len(ODD_VALUES)} values each as an override and in a file: ", end="")
    print(f"{num_accepted + num_refused} tried, {num_refused} refused in a sentence, {num_accepted} taken")


if __name__ == "__main__":
    main()
