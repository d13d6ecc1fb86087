"""The description of a model behind an endpoint: where it is, how it is asked, what it costs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from floe.configs.errors import ConfigError, UserError
from floe.configs.files.complaints import RULES, shown
from floe.configs.sections.bounds import MAX_COUNT, MAX_FACTOR, MAX_PARALLEL, MAX_S, MAX_TEXT_CHARACTERS

OPENAI_HOST, OPENAI_VARIABLE = "api.openai.com", "OPENAI_API_KEY"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole = False
    if not is_whole or any(one.isspace() or not one.isprintable() for one in url):
        raise ValueError("an address as https://api.openai.com/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("an address without user, password, '?' and '#': a key belongs into an environment variable")
    return url.rstrip("/").removesuffix("/chat/completions").removesuffix("/completions")


def _checked_variable(name: str) -> str:
    if name and not _VARIABLE.fullmatch(name):
        raise ValueError("the name of an environment variable, not a key")
    return name


class EndpointPolicy(BaseModel):
    """A model behind an endpoint of OpenAI's interface; the fields are the same in a benchmarks file.

    `key_variable` names the environment variable that holds the key: None is OPENAI_API_KEY at api.openai.com and none
    elsewhere, "" is none. Prices are in any currency per million tokens.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    url: Annotated[str, AfterValidator(_checked_url)] = Field(max_length=MAX_TEXT_CHARACTERS)
    model: str = Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)
    api: Literal["chat", "completions"] = "chat"
    key_variable: Annotated[str, AfterValidator(_checked_variable)] | None = None
    num_parallel: int = Field(default=4, ge=1, le=MAX_PARALLEL)
    requests_per_minute: float | None = Field(default=None, gt=0, le=MAX_FACTOR, allow_inf_nan=False)
    tokens_per_minute: float | None = Field(default=None, gt=0, le=MAX_COUNT, allow_inf_nan=False)
    num_retries: int = Field(default=6, ge=0, le=100)
    time_limit_s: float = Field(default=300.0, gt=0, le=MAX_S, allow_inf_nan=False)
    price_in: float | None = Field(default=None, ge=0, le=MAX_FACTOR, allow_inf_nan=False)
    price_out: float | None = Field(default=None, ge=0, le=MAX_FACTOR, allow_inf_nan=False)

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any], where: str) -> EndpointPolicy:
        """Return the policy. Raises ConfigError, one sentence, which says `where` the wrong field stands."""
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as error:
            raise ConfigError(_sentence(error, where)) from None

    @property
    def name(self) -> str:
        """Model and address, as tables and messages have them."""
        return f"{self.model} at {self.url}"

    @property
    def variable(self) -> str:
        """The name of the key's variable; empty where no key is sent."""
        if self.key_variable is not None:
            return self.key_variable
        return OPENAI_VARIABLE if urlsplit(self.url).hostname == OPENAI_HOST else ""

    def key(self) -> str:
        """Return the key from its variable; empty without one. Raises UserError where it is not set or unusable."""
        if not self.variable:
            return ""
        key = os.environ.get(self.variable, "").strip()
        if not key:
            raise UserError(
                f"The key for {self.name} is to be in the environment variable {self.variable}, which is not set: "
                "export it, or name another one with --endpoint-key-variable ('' for none)."
            )
        if not key.isascii() or not key.isprintable():
            raise UserError(f"The environment variable {self.variable} holds no key, which is ASCII: export it again.")
        return key


def _sentence(error: ValidationError, where: str) -> str:
    first = error.errors(include_url=False)[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return f"Unknown key '{key}' in {where}: known are {', '.join(EndpointPolicy.model_fields)}."
    if first["type"] == "missing":
        return f"{where} lacks '{key}': add it."
    if first["type"] == "value_error":
        # The value is not shown: it may hold a key.
        return f"'{key}' of {where} must be {first['ctx']['error']}."
    rule = RULES.get(first["type"], "").format(**first.get("ctx", {})) or first["msg"]
    return f"'{key}' of {where} is {shown(first['input'])}, but must be {rule}: correct it."
