"""Digests of a run's inputs other than its configuration: training questions, databases and the base model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from xxhash import xxh3_128_hexdigest

from floe.actors.questions.question_sets import QuestionSets
from floe.cluster.checkpoints.file_digests import digests_of
from floe.cluster.checkpoints.state import RunInputs
from floe.cluster.databases.places import find_database
from floe.cluster.messages import Question
from floe.cluster.models.weight_files import weight_files
from floe.cluster.plugins.sources import plugin_sources
from floe.configs.files.foreign_files import parsed_json
from floe.configs.schema import RunConfig

FIELDS_OF_MIXTURES = ("semantics", "source")
MODEL_CONFIG, TOKENIZER = "config.json", "tokenizer.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
NOT_OF_THE_MODEL = ("transformers_version", "_name_or_path")  # of its configuration


def inputs_of(config: RunConfig, model_dir: Path, sets: QuestionSets, initial_adapter: Path | None = None) -> RunInputs:
    """Digest what the run learns from; `sets` are as it uses them.

    A run that has an initial adapter, whose folder is gone, is given None for it. Raises OSError for a file that can't
    be read.
    """
    uses_rates = config.data.sampler == "middle" or config.keeps_posterior
    rates = {name: asdict(rate) for name, rate in sets.pass_rates.items()} if uses_rates else {}
    return RunInputs(
        num_questions=len(sets.train),
        questions=_digest_of_json([[_fields(question) for question in sets.train], rates]),
        databases=_digest_of_files(_data_files(config, sets), config.run.home_dir),
        model=model_digest(model_dir, config.run.home_dir),
        plugins=_digest_of_json(plugin_sources(config)) if config.plugins else "",
        initial_adapter=_initial_adapter(config, initial_adapter),
    )


def _fields(question: Question) -> dict[str, object]:
    """Return its fields; those that only a mixture fills are left out where they are empty."""
    return {name: value for name, value in asdict(question).items() if value or name not in FIELDS_OF_MIXTURES}


def _initial_adapter(config: RunConfig, folder: Path | None) -> str | None:
    if config.lora.initial_adapter is None:
        return ""
    return None if folder is None else adapter_digest(folder, config.run.home_dir)


def adapter_digest(folder: Path, home_dir: Path) -> str:
    """Return the digest of an adapter's weights. Raises OSError for a file that can't be read."""
    (digest,) = digests_of([folder / ADAPTER_WEIGHTS], home_dir)
    return digest


def model_digest(model_dir: Path, home_dir: Path) -> str:
    """Return one digest of weights, configuration and tokenizer, whatever the folder's path.

    Raises OSError for a file that can't be read.
    """
    try:
        settings = parsed_json((model_dir / MODEL_CONFIG).read_bytes())
        settings = {name: value for name, value in settings.items() if name not in NOT_OF_THE_MODEL}
        weights = weight_files(model_dir)
    except (OSError, ValueError, AttributeError):
        settings, weights = {}, []  # the check of the model's folder has a sentence for it
    files = [path for path in (*weights, model_dir / TOKENIZER) if path.is_file()]
    return _digest_of_json([settings, _named_digests(files, model_dir, home_dir)])


def _data_files(config: RunConfig, sets: QuestionSets) -> dict[Path, list[Path]]:
    """Return the files by the folder that their names are relative to."""
    names = sorted({question.database_id for question in sets.train})
    databases = [found for name in names if (found := find_database(sets.databases_dir, name)) is not None]
    files = {sets.databases_dir: list(databases)}
    if config.prompt.descriptions != "none":
        for database in databases:
            files[sets.databases_dir] += sorted(database.parent.glob("database_description/*.csv"))
    if config.data.sources:
        for database in databases:
            further = (one for one in sorted(database.parent.glob("*.sqlite")) if one != database)
            files[sets.databases_dir] += further
    for folder in (config.reward.suite, config.reward.graph_network):
        if folder is not None:
            place = folder.expanduser().resolve()
            files[place] = sorted(path for path in place.rglob("*") if path.is_file())
    return files


def _digest_of_files(files: dict[Path, list[Path]], home_dir: Path) -> str:
    return _digest_of_json([_named_digests(paths, folder, home_dir) for folder, paths in files.items()])


def _named_digests(paths: Iterable[Path], folder: Path, home_dir: Path) -> list[tuple[str, str]]:
    found = list(paths)
    return [
        (path.relative_to(folder).as_posix(), digest)
        for path, digest in zip(found, digests_of(found, home_dir), strict=True)
    ]


def _digest_of_json(value: Sequence[object]) -> str:
    return xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode("utf-8", "surrogatepass"))
