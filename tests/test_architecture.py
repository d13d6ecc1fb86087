"""Keeps the import rules and size limits by parsing every source file."""

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("actors", "cluster", "configs", "learner", "reward_service")
SOURCES = sorted(str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py"))
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 300

# Files that may import a heavy library; `*` crosses folders.
HOMES_OF_LIBRARIES = {
    "vllm": ["actors/engine/vllm_*.py"],
    "deepspeed": ["learner/optimizer/deepspeed_*.py"],
    "ray": ["cluster/*.py"],
    "trl": ["cluster/bench/learner/trl_way.py", "cluster/bench/whole_step/trl_steps.py"],
    "verifiers": ["cluster/other_trainers/verifiers_taskset.py"],
    "wandb": ["cluster/tracking/wandb_run.py"],
    "mlflow": ["cluster/tracking/mlflow_run.py"],
    "sqlglot": [
        "actors/questions/*.py",
        "cluster/evaluation/*.py",
        "cluster/report_page/*.py",
        "cluster/terminal/shown_text.py",
        "cluster/bench/reward/query_variants.py",
        "cluster/graph_training/*.py",
        "reward_service/sql_text/sql_similarity.py",
        "reward_service/graph/*.py",
    ],
    "openai": ["reward_service/judge/judge.py"],
    "bm25s": ["actors/prompting/value_index.py"],
    "plotly": ["cluster/report_page/figure_parts.py", "cluster/ablation/plot.py"],
    "jinja2": ["cluster/report_page/document.py"],
    "sqlalchemy": ["actors/databases/*.py", "cluster/tracking/rollout_log.py", "cluster/report_page/rollout_rows.py"],
}
# Modules that a role may import from the project, in addition to its own package.
ROLES = ("actors", "learner", "reward_service")
SHARED_BY_ROLES = ["cluster.messages", "cluster.contained", "cluster.databases", "configs.*"]
# The command line alone takes settings from variables; the executor hands all of them on to its child, and a key is
# to stand nowhere else; the set-up's script runs before floe is installed.
READS_ENVIRONMENT = [
    "cluster/cli.py",
    "cluster/environment.py",
    "cluster/pip_settings.py",
    "cluster/api/turn.py",  # which restores those of a caller's process
    "cluster/contained/process.py",
    "reward_service/judge/judge.py",
    "cluster/endpoints/policy.py",
    "learner/optimizer/operator_builds.py",  # what PyTorch's builds take from variables
]
# These start processes or libraries that take their settings from variables.
WRITES_ENVIRONMENT = [
    "cluster/cli.py",
    "cluster/api/turn.py",
    "cluster/ray_actors/own_ray.py",
    "actors/engine/vllm_*.py",
    "learner/optimizer/deepspeed_*.py",
    "learner/optimizer/operator_builds.py",
    "cluster/tracking/*_run.py",
]
ENVIRONMENT_WRITERS = ("setdefault", "update", "pop")
# A docstring that begins with one of these lacks its head; of a function also with a question word.
PLACE_WORDS = {"Of", "For", "With", "In", "From", "Around", "By", "At", "On", "To", "Into", "Beside", "Within", "Over"}
TIME_WORDS = {"When", "After", "Before", "Until", "Since"}
HEADLESS = PLACE_WORDS | TIME_WORDS | {"Where", "As", "Else", "Not", "Without", "Both", "None", "Whether"}
QUESTION_WORDS = frozenset({"What", "Which", "How", "Why", "That"})


def tree_of(source: str) -> ast.Module:
    return ast.parse((ROOT / source).read_text(encoding="utf-8"), source)


def imports_of(tree: ast.AST, source: str) -> Iterator[str]:
    """Every module that the tree imports, late imports and those for type checking included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (within_floe(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} imports relatively: write the whole path"
            # `from cluster import messages` names a module too; a class behind the dot does no harm to the rules.
            yield from (within_floe(f"{node.module}.{alias.name}") for alias in node.names)


def within_floe(module: str) -> str:
    return module.removeprefix("floe.")


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def allowed(module: str, names: list[str]) -> bool:
    return any(module == name or matches(module, [name]) or module.startswith(f"{name}.") for name in names)


def is_standard_library(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def import_faults(source: str, tree: ast.AST) -> list[str]:
    """Return the imports of a file that break the rules."""
    faults = []
    package = source.partition("/")[0]
    for module in imports_of(tree, source):
        top = module.partition(".")[0]
        if source == "cluster/messages.py" and not is_standard_library(module):
            faults.append(f"cluster/messages.py imports {module}, which is not of the standard library")
        if package == "configs" and not (
            is_standard_library(module) or top in ("pydantic", "pydantic_core", "yaml", "configs")
        ):
            faults.append(f"{source} imports {module}, which makes reading a configuration heavy")
        if package in ROLES and top in PACKAGES and not allowed(module, [package, *SHARED_BY_ROLES]):
            faults.append(f"{source} imports {module}: a role knows only itself, the messages and the configuration")
        if not matches(source, HOMES_OF_LIBRARIES.get(top, ["*"])):
            faults.append(f"{source} imports {module}: only {HOMES_OF_LIBRARIES[top]} may")
        if allowed(module, ["cluster.cli"]):
            faults.append(f"{source} imports the command line")
    return faults


def parents_of(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def environment_uses(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """("reads" or "writes", line) for each use of the environment's variables."""
    parents = parents_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (("reads", node.lineno) for alias in node.names if alias.name in ("environ", "getenv"))
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"):
            continue
        if node.attr in ("putenv", "unsetenv"):
            yield "writes", node.lineno
        elif node.attr == "getenv":
            yield "reads", node.lineno
        elif node.attr == "environ":
            parent = parents[node]
            changed = isinstance(parent, ast.Subscript) and not isinstance(parent.ctx, ast.Load)
            called = isinstance(parent, ast.Attribute) and parent.attr in ENVIRONMENT_WRITERS
            yield "writes" if changed or called else "reads", node.lineno


def environment_faults(source: str, tree: ast.AST) -> list[str]:
    homes = {"reads": READS_ENVIRONMENT, "writes": WRITES_ENVIRONMENT}
    return [
        f"{source}:{line} {use} environment variables: only {homes[use]} may"
        for use, line in environment_uses(tree)
        if not matches(source, homes[use])
    ]


def is_broad(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(one is None or (isinstance(one, ast.Name) and one.id in ("Exception", "BaseException")) for one in kinds)


def silent_handlers(source: str, tree: ast.AST) -> list[str]:
    """Broad handlers that do nothing: they turn a bug into a wrong number."""
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type):
            if all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body):
                faults.append(f"{source}:{node.lineno} swallows every exception")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            faults += [f"{source}:{node.lineno} suppresses every exception" for one in node.args if is_broad(one)]
    return faults


def size_faults(source: str, tree: ast.AST) -> list[str]:
    num_lines = len((ROOT / source).read_text(encoding="utf-8").splitlines())
    faults = [f"{source} has {num_lines} lines, at most {MAX_FILE_LINES}"] if num_lines > MAX_FILE_LINES else []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                faults.append(f"{source}:{node.lineno} {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}")
    return faults


def docstring_faults(source: str, tree: ast.Module) -> list[str]:
    faults = [f"{source} does not say what it is for"] if tree.body and not ast.get_docstring(tree) else []
    return faults + headless_docstrings(source, tree)


def headless_docstrings(source: str, tree: ast.Module) -> list[str]:
    faults = []
    for node in ast.walk(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if not is_function and not isinstance(node, ast.Module | ast.ClassDef):
            continue
        first = re.match(r"[\w-]*", ast.get_docstring(node) or "")[0]
        if first in HEADLESS or (is_function and first in QUESTION_WORDS):
            line = node.body[0].lineno
            faults.append(f"{source}:{line} begins a docstring with '{first}': begin with a verb or a noun phrase")
    return faults


def name_faults(source: str, _: ast.AST) -> list[str]:
    return [f"{source} is a drawer: name it for its duty"] if Path(source).stem in ("utils", "helpers", "misc") else []


@pytest.mark.parametrize(
    "check", [import_faults, environment_faults, silent_handlers, size_faults, docstring_faults, name_faults]
)
def test_every_source_file_keeps_the_rules(check):
    assert SOURCES
    faults = [fault for source in SOURCES for fault in check(source, tree_of(source))]
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("cluster/messages.py", "import numpy"),
        ("configs/schema.py", "from cluster import messages"),
        ("configs/schema.py", "import torch"),
        ("actors/prompting/prompts.py", "from floe.learner.policy.policy import Policy"),
        ("learner/policy/policy.py", "from cluster import placement"),
        ("reward_service/scorer.py", "def f():\n    import ray"),
        ("cluster/loop/controller.py", "import vllm.lora"),
        ("learner/policy/policy.py", "import deepspeed"),
        ("cluster/loop/controller.py", "from sqlalchemy import select"),
        ("cluster/loop/controller.py", "from floe.cluster.cli import main"),
    ],
)
def test_a_forbidden_import_is_found(source, code):
    assert import_faults(source, ast.parse(code))


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("cluster/messages.py", "from dataclasses import dataclass"),
        (
            "actors/prompting/prompts.py",
            "from floe.cluster.messages import Question\nfrom floe.actors.questions.schema_text import x",
        ),
        ("actors/prompting/prompts.py", "from cluster import messages\nimport floe.configs.schema"),
        ("actors/engine/vllm_engine.py", "import vllm"),
        ("learner/optimizer/deepspeed_engine.py", "import deepspeed"),
        ("cluster/operations/train.py", "import ray\nfrom learner import policy"),
    ],
)
def test_an_allowed_import_is_left_alone(source, code):
    assert not import_faults(source, ast.parse(code))


@pytest.mark.parametrize(
    ("code", "use"),
    [
        ("os.environ['X']", "reads"),
        ("os.environ.get('X')", "reads"),
        ("os.getenv('X')", "reads"),
        ("'X' in os.environ", "reads"),
        ("f(env={**os.environ})", "reads"),
        ("from os import environ", "reads"),
        ("os.environ['X'] = 'y'", "writes"),
        ("del os.environ['X']", "writes"),
        ("os.environ.setdefault('X', 'y')", "writes"),
        ("os.environ.update(x)", "writes"),
    ],
)
def test_uses_of_the_environment_are_told_apart(code, use):
    assert [found for found, _ in environment_uses(ast.parse(code))] == [use]


def test_a_silent_handler_is_found_and_a_narrow_or_loud_one_is_not():
    silent = "try:\n    f()\nexcept {}:\n    {}"
    for kind, body in (("Exception", "pass"), ("(ValueError, BaseException)", "pass")):
        assert silent_handlers("x.py", ast.parse(silent.format(kind, body)))
    assert silent_handlers("x.py", ast.parse("try:\n    f()\nexcept:\n    pass"))
    assert silent_handlers("x.py", ast.parse("with contextlib.suppress(Exception):\n    f()"))
    for kind, body in (("OSError", "pass"), ("Exception", "raise")):
        assert not silent_handlers("x.py", ast.parse(silent.format(kind, body)))


def test_the_docstrings_of_tests_stand_alone():
    assert TESTS
    faults = [fault for source in TESTS for fault in headless_docstrings(source, tree_of(source))]
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    "code",
    [
        '"""Of the actors."""',
        '"""Fine."""\n\nclass A:\n    """None of these."""',
        '"""Fine."""\n\ndef f():\n    """Whether it runs."""',
        '"""Fine."""\n\nclass A:\n    async def f(self):\n        """What it is."""',
    ],
)
def test_a_headless_docstring_is_found(code):
    assert len(docstring_faults("reward_service/scorer.py", ast.parse(code))) == 1


def test_a_docstring_that_stands_alone_is_left_alone():
    code = '"""What a run needs."""\n\ndef f():\n    """Return what it is."""\n\ndef g():\n    """Formats a text."""'
    assert not docstring_faults("reward_service/scorer.py", ast.parse(code))
