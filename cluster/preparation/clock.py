"""Decides a configuration's `reward.clock`: the present time that SQL gets, the same in every judgement."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from floe.actors.questions.prepared_folder import MANIFEST_FILE, clock_of_prepared
from floe.cluster.preparation.gold_check_log import VerdictLog
from floe.cluster.run_folder.layout import recorded_config
from floe.configs.schema import RunConfig
from floe.configs.sections.reward_sections import AUTO_CLOCK, RewardSection
from floe.reward_service.sandbox.fixed_clock import INSTANT_FORMAT


def present_instant() -> str:
    return time.strftime(INSTANT_FORMAT, time.gmtime())


def with_clock(config: RunConfig, adapter: Path | None = None, *, asks_others: bool = False) -> RunConfig:
    """Return the configuration with a clock: its own, the prepared folder's, the adapter's run's or the present time.

    With `asks_others` the questions are not the configuration's, and its prepared folder may be missing. Raises
    UserError for a prepared folder that can't be read.
    """
    if config.reward.clock != AUTO_CLOCK:
        return config
    recorded = None if adapter is None else recorded_config(adapter)
    folders = [one.path for one in config.data.sources]
    if not folders and config.data.source == "prepared" and config.data.prepared is not None:
        folders = [config.data.prepared]
    folders = [one.expanduser().resolve() for one in folders]
    clocks = (clock_of_prepared(one) for one in folders if one.exists() or not asks_others)
    clock = max(filter(None, clocks), default=None)  # one run has one present time: the latest
    if clock is None and recorded is not None and recorded.reward.clock != AUTO_CLOCK:
        clock = recorded.reward.clock
    return _with(config, clock or present_instant())


def with_saved_clock(config: RunConfig, saved: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """Fill the clock that the configuration leaves open from a saved one."""
    is_open = config.reward.clock == AUTO_CLOCK
    return _with(config, saved.get("reward", {}).get("clock", AUTO_CLOCK)) if is_open else config


def decided_reward(reward: RewardSection) -> RewardSection:
    """Return the section with the present time for its clock, where that is open and no folder or run decides it."""
    return reward.model_copy(update={"clock": present_instant()}) if reward.clock == AUTO_CLOCK else reward


def at_the_folders_clock(reward: RewardSection, log: VerdictLog, folder: Path) -> RewardSection:
    """Return the section with the given clock, or the folder's, or the present time, which the folder keeps."""
    known = log.clock()
    if known is None and (folder / MANIFEST_FILE).is_file():
        known = clock_of_prepared(folder)
    if reward.clock == AUTO_CLOCK and known is not None:
        log.put_clock(known)
        return reward.model_copy(update={"clock": known})
    decided = decided_reward(reward)
    log.put_clock(decided.clock)
    return decided


def _with(config: RunConfig, clock: str) -> RunConfig:
    return config.model_copy(update={"reward": config.reward.model_copy(update={"clock": clock})})
