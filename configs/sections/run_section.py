"""Section of the run: its name, its length, where it keeps its files, and who gets its records."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from floe.configs.errors import ConfigError
from floe.configs.sections.addresses import has_credentials, is_address
from floe.configs.sections.bounds import MAX_BYTES, MAX_COUNT, MAX_S, MAX_SEED, MAX_STEPS
from floe.configs.sections.learning_sections import Section
from floe.configs.sections.resume_rule import Fixed, Free, Steps

MAX_NAME_BYTES = 150  # of a run: its folder has the time in its name too
NO_PROJECT_CHARACTERS = "/\\#?%:"  # of W&B


class RunSection(Section):
    name: Free[str] = Field("run", description="Name of the run; its folder is named after it.")
    seed: Fixed[int] = Field(1, ge=0, le=MAX_SEED, description="Every random stream of the run derives from it.")
    num_steps: Steps[int] = Field(
        20,
        ge=0,
        le=MAX_STEPS,
        description="GRPO steps; with num_epochs the run works them out. 0 is the supervised stage alone.",
    )
    num_epochs: Steps[int | None] = Field(
        None,
        ge=1,
        le=MAX_STEPS,
        description="In place of num_steps: how often every training question is asked, in steps of at most "
        "rollout.questions_per_step.",
    )
    home: Free[Path] = Field(Path("~/.floe"), description="Folder of runs, models, demo data and the warm-start cache.")
    plugin_folder: Free[Path | None] = Field(
        None,
        description="Folder of modules that plug-ins name and that are not installed; the working folder if left out.",
    )
    takes_changed_plugins: Free[bool] = Field(
        False,
        description="A resume takes changed code of plug-ins, as after a bug in a reward; later steps use it.",
    )
    max_generated_tokens: Free[int | None] = Field(
        None,
        ge=1,
        le=MAX_BYTES,
        description="The run ends with the step that reaches so many, where that is before num_steps.",
    )
    max_dropped_share: Free[float] = Field(
        0.2, ge=0, le=1, description="The run stops when more of a step's groups than this had no usable verdict."
    )

    checkpoint_every_steps: Free[int] = Field(
        1, ge=1, le=MAX_COUNT, description="Steps between checkpoints; the last step has one."
    )
    keep_checkpoints: Free[int] = Field(2, ge=1, le=MAX_COUNT, description="The newest ones stay.")
    retries: Free[int] = Field(
        0, ge=0, le=MAX_COUNT, description="How often the run's driver is started again when it dies."
    )
    stop_within_s: Free[float] = Field(
        20.0,
        gt=0,
        le=MAX_S,
        description="After SIGTERM or SIGHUP: a step that takes longer is left, and a resume makes it again.",
    )
    max_rollout_log_bytes: Free[int] = Field(
        2 * 2**30,
        ge=2**20,
        le=MAX_BYTES,
        description="Size of rollouts.sqlite; beyond it the oldest steps' rows make room.",
    )
    wandb_project: Free[str | None] = Field(None, description="Records go to this project of Weights & Biases too.")
    mlflow_uri: Free[str | None] = Field(None, description="Records go to this MLflow server, or folder, too.")

    @field_validator("mlflow_uri")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value is not None and has_credentials(value):
            raise ValueError(
                "run.mlflow_uri holds a name or password, which would be written to the run folder: take it out and "
                "set the variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if value is not None and value.startswith(("http://", "https://")) and not is_address(value):
            raise ValueError(
                f"run.mlflow_uri is {value!r}, which is not an address: give one as http://127.0.0.1:5000, or a folder"
            )
        return value

    @field_validator("wandb_project")
    @classmethod
    def _a_project_of_wandb(cls, value: str | None) -> str | None:
        is_plain = value is None or (
            value.strip() and len(value) <= 128 and not set(value) & set(NO_PROJECT_CHARACTERS)
        )
        if not is_plain:
            raise ValueError(
                f"run.wandb_project is {value!r}, which W&B does not take as a project's name: use at most 128 "
                f"letters, digits, '-' and '_', and none of {NO_PROJECT_CHARACTERS}"
            )
        return value

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        is_plain = value.strip() not in ("", ".", "..") and value.isprintable() and not set(value) & set("/\\")
        if is_plain and len(value.encode()) > MAX_NAME_BYTES:
            raise ValueError(
                f"run.name has {len(value.encode())} bytes, but the run's folder is named after it: use at most "
                f"{MAX_NAME_BYTES}"
            )
        if not is_plain:
            raise ValueError(
                f"run.name is {value!r}, but the run's folder is named after it: use letters, digits, '-' and '_'"
            )
        return value

    @property
    def known_num_steps(self) -> int | None:
        """The number of steps; None while it is that of `num_epochs` and not worked out yet."""
        return None if self.num_epochs is not None and "num_steps" not in self.model_fields_set else self.num_steps

    @property
    def home_dir(self) -> Path:
        try:
            return self.home.expanduser().resolve()
        except RuntimeError:
            raise ConfigError(
                f"run.home is {self.home}, and no variable HOME says where that is: set HOME, FLOE_HOME or run.home."
            ) from None
