"""`floe export`: a run's adapter merged into its base model, or alone, each with a card of the run."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from pathlib import Path

from floe.actors.questions.question_sets import SPLITS
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.evaluation.results import read_report
from floe.cluster.exports.adapter_base import other_base_warning
from floe.cluster.exports.base_licence import licence_of
from floe.cluster.exports.model_card import CardFacts, Kind, Which, model_card
from floe.cluster.exports.run_adapters import FoundAdapter, find_adapter
from floe.cluster.models.model_folder import model_folder
from floe.cluster.run_folder.file_names import REPORT_FILE
from floe.cluster.run_folder.new_folder import check_free, new_folder
from floe.cluster.terminal.shown_text import say
from floe.configs.errors import UserError
from floe.configs.files.paths import local_model
from floe.configs.schema import RunConfig
from floe.learner.adapter.export import Tensors, rounded, to_blob
from floe.learner.adapter.files import read_adapter, write_adapter
from floe.learner.adapter.merge import LoraPair, pairs_by_weight
from floe.learner.adapter.merged_model import weight_files, write_merged

CARD = "README.md"


def export(
    config: RunConfig,
    run_dir: Path,
    which: Which | None,
    merged: Path | None,
    adapter: Path | None,
    *,
    adapter_dtype: str | None = None,
) -> None:
    """Write the folders that are asked for and print each. Raises UserError.

    The adapter alone is rounded to `adapter_dtype`, a name of torch's, where that is given.
    """
    outs: dict[Kind, Path] = {}
    if merged is not None:
        outs["merged"] = merged.expanduser().absolute()
    if adapter is not None:
        outs["adapter"] = adapter.expanduser().absolute()
    for folder in outs.values():
        check_free(folder)
    found = find_adapter(run_dir, which)
    tensors = read_adapter(found.folder, config.lora)
    pairs = _pairs(tensors, found.folder, config)
    model_dir = model_folder(config, config.run.home_dir / "demo", weights="merged" in outs)
    if warning := other_base_warning(found.folder, config.model.path, model_dir):
        say(warning, to_stderr=True)
    card = _Card(config, run_dir, found, model_dir)
    for kind, folder in outs.items():
        with new_folder(folder, _num_bytes(model_dir) if kind == "merged" else 0) as draft:
            if kind == "merged":
                write_merged(model_dir, pairs, draft)
            else:
                base = Path(config.model.path if card.is_on_hub else model_dir.name)  # no path of this machine
                write_adapter(draft, to_blob(rounded(tensors, adapter_dtype)), config.lora, base)
            card.write(draft, kind, folder.name)
        version = "" if found.version is None else f" (version {found.version})"
        say(f"{folder}: {found.which} adapter{version} {'merged into' if kind == 'merged' else 'for'} {model_dir}")


def _num_bytes(model_dir: Path) -> int:
    return sum((model_dir / file).stat().st_size for file in weight_files(model_dir))


def _pairs(tensors: Tensors, folder: Path, config: RunConfig) -> dict[str, LoraPair]:
    try:
        return pairs_by_weight(tensors, config.lora.rank, config.lora.alpha)
    except ValueError as fault:
        raise UserError(f"The adapter in '{folder}' can't be used ({fault}): choose another with --which.") from fault


class _Card:
    """Reads the content of a card once for both folders."""

    def __init__(self, config: RunConfig, run_dir: Path, found: FoundAdapter, model_dir: Path) -> None:
        self._config = config
        self._found = found
        self._data = data_sentences(config)
        self._licence = licence_of(model_dir)
        path = config.model.path
        is_folder = local_model(path) is not None
        self.is_on_hub = not is_folder and not path.startswith("embedded:")
        self._base = model_dir.name if is_folder else path
        try:
            self._report = read_report(run_dir)
        except (ValueError, OSError) as fault:
            raise UserError(
                f"{run_dir / REPORT_FILE} can't be read ({type(fault).__name__}): "
                "move it away to export without the run's accuracy."
            ) from fault

    def write(self, folder: Path, kind: Kind, title: str) -> None:
        text = model_card(
            CardFacts(
                kind=kind,
                title=title,
                base=self._base,
                is_on_hub=self.is_on_hub,
                which=self._found.which,
                version=self._found.version,
                selection=self._found.selection,
                config=self._config,
                licence=self._licence,
                data=self._data,
                report=self._report,
                floe_version=installed_version("floe-rl"),
            )
        )
        (folder / CARD).write_text(text, encoding="utf-8")


def data_sentences(config: RunConfig) -> list[str]:
    """Return sentences on where the questions came from, and how many there are now."""
    data = config.data
    origin = {
        "demo": "floe's demo: questions, SQL and databases made by a program.",
        "files": f"Questions `{data.questions.name if data.questions else ''}`, databases in the folder "
        f"`{data.databases.name if data.databases else ''}`.",
        "prepared": f"The folder `{data.prepared.name if data.prepared else ''}`, made by `floe prepare`.",
        "mixed": f"A mixture of folders made by `floe prepare`: {', '.join(f'`{one.label}`' for one in data.sources)}.",
    }.get(data.source, f"The source `{data.source}`, a plug-in.")
    try:
        sets = sets_of_run(config)
    except (UserError, OSError):
        return [origin, "The number of questions is not known: they are no longer where the run had them."]
    counts = ", ".join(f"{len(sets.split(split)):,} {split}" for split in SPLITS)
    databases = {question.database_id for split in SPLITS for question in sets.split(split)}
    return [
        origin,
        f"Questions: {counts}, over {len(databases):,} databases, as the run's configuration selects them at the time "
        "of export. Prompts that did not fit the context were left out.",
        "`train` was trained on, `tune` selects, `test` measures; the warm start also learns the golds of `train`.",
    ]
