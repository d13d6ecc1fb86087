"""`floe bench families`: how the learner handles every causal language model family, and a short training run does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich import box
from rich.table import Table
from transformers import AutoConfig, AutoTokenizer

from floe import configs
from floe.cluster.bench.families.family_rows import RIGHT, FamilyRow, adaptable_modules, family_row
from floe.cluster.bench.families.tiny_families import causal_families, tiny_config, write_tiny_model
from floe.cluster.contained.own_code import module_command
from floe.cluster.environment import environment_of_floe
from floe.cluster.models.model_folder import model_folder
from floe.cluster.run_folder.file_names import METRICS_FILE
from floe.cluster.terminal.progress import make_console, progress_bar
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

SMOKE = Path(configs.__file__).parent / "smoke.yaml"
TRAINING = (
    "run.name=family", "run.num_steps=2", "model.dtype=float32", "rollout.dtype=float32", "warm_start.enabled=false",
    "evaluation.enabled=false", "cluster.address=local",
)  # fmt: skip


def bench_families(config: RunConfig, only: Sequence[str], trained: Sequence[str], as_json: bool) -> None:
    """Print the table, or JSON. Raises UserError for a name that is no family's."""
    families = causal_families()
    names = list(only) or _of_the_engine(families)
    if unknown := sorted({*names, *trained} - set(families)):
        raise UserError(f"'{unknown[0]}' is not a causal language model type that transformers knows.")
    rows = []
    # DeepSpeed writes to stdout when PEFT imports it.
    with redirect_stdout(sys.stderr), progress_bar("Comparing", len(names)) as advance:
        for name in names:
            row = family_row(name)
            rows.append(replace(row, trained_mismatch=mismatch_of_run(config, name)) if name in trained else row)
            advance(1)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print(rows)


def _of_the_engine(families: dict[str, str]) -> list[str]:
    """Return the families whose class vLLM knows too."""
    from floe.actors.engine.vllm_models import engine_classes

    known = engine_classes()
    return [name for name, of_class in families.items() if of_class in known]


def mismatch_of_run(config: RunConfig, model_type: str) -> float:
    """Train a tiny model of the family for two steps; return how far engine and learner differ, in nats per token.

    The larger of the two steps' means. Raises UserError with the end of what the run said where it failed.
    """
    with TemporaryDirectory(prefix="floe-family-") as name:
        folder, run_dir = Path(name) / "model", Path(name) / "run"
        _write_with_tokenizer(folder, model_type, config)
        modules = ",".join(adaptable_modules(folder))
        chosen = [f"run.home={config.run.home_dir}", f"model.path={folder}", f"lora.target_modules=[{modules}]"]
        arguments = ["--config", str(SMOKE), "--run-dir", str(run_dir), *TRAINING, *chosen]
        command = module_command("floe.cluster.cli", "train", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, env=environment_of_floe(), check=False)
        if done.returncode != 0:
            raise UserError(f"training a tiny '{model_type}' failed: {(done.stdout + done.stderr)[-600:]}")
        records = [json.loads(line) for line in (run_dir / METRICS_FILE).read_text().splitlines()]
        largest: float = max(record["logprob_mismatch_mean"] for record in records)
        return largest


def _write_with_tokenizer(folder: Path, model_type: str, config: RunConfig) -> None:
    """Write a tiny model of the family with the tokenizer of the embedded one."""
    section = config.model.model_copy(update={"path": "embedded:tiny-qwen2"})
    source = model_folder(config.model_copy(update={"model": section}), config.run.home_dir / "demo")
    tokenizer = AutoTokenizer.from_pretrained(source)
    family = tiny_config(model_type, AutoConfig.from_pretrained(source).vocab_size)
    for part in (family, family.get_text_config()):
        part.bos_token_id, part.pad_token_id, part.eos_token_id = None, None, tokenizer.eos_token_id
    write_tiny_model(folder, family)
    tokenizer.save_pretrained(folder)


def _print(rows: Sequence[FamilyRow]) -> None:
    counts = Counter(row.status for row in rows)
    title = f"{len(rows)} families: {', '.join(f'{number} {status}' for status, number in counts.most_common())}"
    columns = "family", "learner", "nats, mean", "nats, most", "gradient", "trained", "adapted, or why not"
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        numbers = (row.mean_difference, row.max_difference, row.gradient_difference, row.trained_mismatch)
        shown = ["" if one is None else f"{one:.1e}" for one in numbers]
        modules = ", ".join(one.removesuffix("_proj") for one in row.modules)
        what = modules if row.status == RIGHT and not row.why else row.why
        table.add_row(row.model_type, row.status, *shown, what)
    make_console().print(table)
