"""Checks of the model's folder: configuration, weights, tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from floe.actors.prompting.styles import style_of
from floe.cluster.memory_plan.shapes.projections import adapter_sizes
from floe.cluster.models.model_folder import is_of_hub
from floe.cluster.models.weight_files import INDEX, weight_files
from floe.cluster.preflight.finding import Finding, fault, ok, warning
from floe.configs.errors import first_line
from floe.configs.files.foreign_files import parsed_json
from floe.configs.model_families import text_part
from floe.configs.schema import ModelSection, RunConfig
from floe.configs.sections.learning_sections import ADAPTABLE, LoraSection

GIT_LFS = b"version https"
MAX_HEADER_BYTES = 100 * 2**20  # the format's own limit
EXTENDING_SCALINGS = ("linear", "dynamic")  # of max_position_embeddings
WHOLE_MODEL = "give a whole model folder"


LoadTokenizer = Callable[[Path], Any]


def load_tokenizer(model_dir: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)


def model_config(
    model_dir: Path, model: ModelSection, *, samples_on_cpu: bool = True, plugin_folder: Path | None = None
) -> Finding:
    """Check whether the learner can compute the model, and whether it was made for texts as long as the run's."""
    if not (model_dir / "config.json").is_file():
        return fault(f"{model_dir} has no config.json", WHOLE_MODEL)
    from floe.learner.families.family import learner_refusal, sampling_refusal
    from floe.learner.family_plugin import family_of

    family = family_of(model, plugin_folder)
    try:
        config = read_model_config(model_dir)
    except (ValueError, OSError) as error:
        return fault(f"{model_dir / 'config.json'} can't be used ({first_line(error)})", WHOLE_MODEL)
    why = learner_refusal(family, config) or sampling_refusal(family, config, on_cpu=samples_on_cpu)
    if why:
        return fault(f"The model in {model_dir} can't be trained here: {why}", "docs/families.md lists what can be")
    text = text_part(config)
    limit = longest_text(text)
    if limit is not None and limit < model.max_context_tokens:
        return fault(
            f"model.max_context_tokens is {model.max_context_tokens}, the model was made for {limit} at most",
            f"set model.max_context_tokens={limit}",
        )
    return ok(f"{config.model_type}, {text.num_hidden_layers} layers, up to {limit} tokens")


def longest_text(config: Any) -> int | None:
    """Return the most tokens that the engine takes, as it counts them (vLLM 0.32, `ModelConfig`); None for no limit.

    A factor of YaRN, longrope or llama3 is ignored, because the configuration has the extended length already.
    """
    limit = getattr(config, "max_position_embeddings", None)
    scaling = getattr(config, "rope_parameters", None) or {}
    if limit is None or scaling.get("rope_type") not in EXTENDING_SCALINGS:
        return limit
    return int(limit * scaling.get("factor", 1.0))


def weights(model_dir: Path, config: RunConfig) -> Finding:
    """Check that every file exists, is as long as its header says, and has the modules that the adapter belongs to."""
    try:
        paths = weight_files(model_dir)
    except ValueError as error:
        return fault(f"{model_dir / INDEX} is no index of weights ({first_line(error)})", WHOLE_MODEL)
    if is_of_hub(config.model) and not (paths and all(path.is_file() for path in paths)):
        from huggingface_hub.constants import HF_HUB_OFFLINE

        if HF_HUB_OFFLINE:
            return fault("the weights are not here and HF_HUB_OFFLINE is set", "fetch them with a connection")
        return warning("the weights are not here yet", "floe train fetches them, which may take long")
    if not paths:
        return fault(f"{model_dir} has no *.safetensors file", WHOLE_MODEL)
    modules: set[str] = set()
    num_bytes = 0
    for path in paths:
        why, names = _read_header(path)
        if why:
            return fault(f"{path} {why}", "fetch it again")
        num_bytes += path.stat().st_size
        modules |= {name.rsplit(".", 2)[-2] for name in names if name.count(".") >= 2}
    absent = [name for name in config.lora.target_modules if name not in modules]
    if absent:
        found = ",".join(name for name in ADAPTABLE if name in modules)
        return fault(f"the model has no {', '.join(absent)} to adapt", f"set lora.target_modules=[{found}]")
    return ok(f"{num_bytes / 1e9:.2f} GB in {len(paths)} file{'s' if len(paths) > 1 else ''}")


def tokenizer(model_dir: Path, load: LoadTokenizer = load_tokenizer) -> Finding:
    """Check that it loads, has an end token, and has no token that the model has no row for."""
    try:
        loaded = load(model_dir)
    except (ValueError, OSError, KeyError, TypeError) as error:
        return fault(f"the tokenizer in {model_dir} can't be loaded ({first_line(error)})", WHOLE_MODEL)
    if loaded.eos_token_id is None:
        return fault(f"the tokenizer in {model_dir} has no end token", "use an instruct model")
    rows = getattr(text_part(read_model_config(model_dir)), "vocab_size", None)
    largest = max(loaded.get_vocab().values())
    if rows is not None and largest >= rows:
        return fault(
            f"the tokenizer in {model_dir} has tokens up to number {largest}, the model has {rows} rows",
            "use the tokenizer that came with the model",
        )
    return ok(f"{len(loaded)} tokens, ends with {loaded.eos_token}")


def chat_template(config: RunConfig, model_dir: Path, load: LoadTokenizer = load_tokenizer) -> Finding:
    """Check that it takes the run's messages, shows the question, and ends a turn with the token that is taught."""
    loaded = load(model_dir)
    if loaded.chat_template is None:
        return fault(f"The tokenizer in {model_dir} has no chat template", "use an instruct model.")
    question = "How many are there?"
    chat = style_of(config.prompt, config.run.plugin_folder).messages(question, "", "CREATE TABLE t (a INT)")
    try:
        shown = str(loaded.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        answered = str(loaded.apply_chat_template([*chat, {"role": "assistant", "content": "A"}], tokenize=False))
    except Exception as error:  # Jinja's error, or whatever the template raises itself
        return fault(f"the chat template in {model_dir} refuses the run's messages ({first_line(error)})", WHOLE_MODEL)
    if question not in shown:
        return fault(f"the chat template in {model_dir} leaves out the question", "use another instruct model")
    if loaded.eos_token not in answered.rpartition("A")[2]:
        return warning(
            f"the chat template ends no turn with {loaded.eos_token}, which the warm start teaches as the end",
            "check eos_token in tokenizer_config.json: an instruct model's is its template's",
        )
    return ok(f"{len(loaded(shown, add_special_tokens=False)['input_ids'])} tokens for a question over one table")


def num_adapter_weights(model_dir: Path, lora: LoraSection) -> int:
    """Return the size of A [rank, in] and B [out, rank] of every target module of every layer."""
    config = text_part(read_model_config(model_dir))
    sizes = adapter_sizes(config)
    num: int = config.num_hidden_layers * sum(lora.rank * sum(sizes[name]) for name in lora.target_modules)
    return num


def read_model_config(model_dir: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(model_dir, trust_remote_code=False)


def _read_header(path: Path) -> tuple[str, list[str]]:
    """Return what is wrong with the file, empty for nothing, and the names of its tensors."""
    if not path.is_file():
        return "is missing", []
    with path.open("rb") as file:
        start = file.read(8)
        if (start + file.read(len(GIT_LFS))).startswith(GIT_LFS):
            return "is a pointer of Git LFS, not the weights themselves", []
        num_header_bytes = int.from_bytes(start, "little")
        if len(start) < 8 or num_header_bytes > MAX_HEADER_BYTES:
            return "is no safetensors file", []
        file.seek(8)
        try:
            header = parsed_json(file.read(num_header_bytes))
        except ValueError:
            return "is no safetensors file", []
    header.pop("__metadata__", None)
    wanted = 8 + num_header_bytes + max(_ends(header), default=0)
    found = path.stat().st_size
    return (f"has {found} of {wanted} bytes" if found != wanted else ""), list(header)


def _ends(header: dict[str, Any]) -> Iterator[int]:
    yield from (entry["data_offsets"][1] for entry in header.values())
