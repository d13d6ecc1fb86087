"""floe's whole steps for the bench: the main loop of a run over given questions, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.random_streams import stream_seed
from floe.cluster.bench.whole_step.step_figures import StepTimes
from floe.cluster.loop.adapter_broadcast import Broadcast, Published
from floe.cluster.loop.controller import train_grpo
from floe.cluster.loop.device_turns import DeviceTurns
from floe.cluster.loop.group_collection import Collected, collect
from floe.cluster.loop.step_clock import StepTimings
from floe.cluster.loop.token_budget import TokenBudget
from floe.cluster.messages import GroupRequest, Question, ScoredGroup, StepReport
from floe.cluster.ray_actors.placement import start_learner, start_reward_pool, start_rollout_pool
from floe.configs.schema import RunConfig

ADDED_REWARD = 0.01  # to every second candidate: a group of equal rewards would be left out of the update
MAX_CANARY_TOKENS = 96


class FloeSteps:
    """Actors as a run starts them, with the main loop over them; also the loop's recorder."""

    def __init__(
        self, config: RunConfig, model_dir: Path, databases_dir: Path, encoder: PromptEncoder, canary: Question
    ) -> None:
        self._config, self._encoder = config, encoder
        self._rewards = start_reward_pool(config, databases_dir)
        self._learner = start_learner(config, model_dir, None)
        self._rollouts = start_rollout_pool(config, model_dir)
        self._device = DeviceTurns(self._rollouts, self._learner)
        text = encoder.prompt(canary) + encoder.answer(canary.gold_sql[0])
        self._broadcast = Broadcast(self._learner, self._rollouts, self._device, text[-MAX_CANARY_TOKENS:])
        self._broadcast.publish(0)
        self._step = 0
        self._times: StepTimes | None = None

    def step(self, questions: Sequence[Question]) -> StepTimes:
        """Make the next step over these questions: generate, score, update, publish, prove."""
        self._step += 1
        train_grpo(
            generation=_GivenQuestions(lambda step: self._collected(step, questions)),
            learner=self._learner,
            device=self._device,
            broadcast=self._broadcast,
            recorder=self,
            health=_Nothing(),
            checkpoints=_Nothing(),
            stop=_Nothing(),
            first_step=self._step,
            num_steps=self._step,
            budget=TokenBudget(None, 0),
            max_dropped_share=0.0,
        )
        assert self._times is not None
        return self._times

    def stop(self) -> None:
        self._rollouts.stop()
        self._learner.stop()

    def record(
        self, taken: Collected, num_dropped: int, report: StepReport, published: Published, timings: StepTimings
    ) -> None:
        self._times = StepTimes(
            step_s=timings.step_s,
            generate_s=timings.rollout_s,
            reward_s=timings.reward_s,
            update_s=timings.learn_s,
            sync_s=timings.sync_s + timings.handover_s,
            num_tokens=sum(len(one.token_ids) for group in taken.groups for one in group.rollout.completions),
        )

    def _collected(self, step: int, questions: Sequence[Question]) -> Collected:
        requests = [self._request(question, step) for question in questions]
        found = collect(self._rollouts, self._rewards, requests, step - 1, self._encoder.answer_start)
        return replace(found, groups=tuple(_with_gradient(group) for group in found.groups))

    def _request(self, question: Question, step: int) -> GroupRequest:
        rollout = self._config.rollout
        return GroupRequest(
            group_id=f"step {step}: {question.question_id}",
            question=question,
            prompt_token_ids=self._encoder.prompt(question),
            num_samples=rollout.group_size,
            temperature=rollout.temperature,
            max_new_tokens=rollout.max_new_tokens,
            seed=stream_seed(self._config.run.seed, f"step {step}", question.question_id),
        )


def with_added(rewards: Sequence[float | None]) -> list[float | None]:
    """Return the rewards of a group with `ADDED_REWARD` on every second one, so that it has a gradient."""
    return [one if one is None else one + ADDED_REWARD * (number % 2) for number, one in enumerate(rewards)]


def _with_gradient(group: ScoredGroup) -> ScoredGroup:
    rewards = with_added([score.reward for score in group.scores])
    scores = tuple(replace(score, reward=reward) for score, reward in zip(group.scores, rewards, strict=True))
    return replace(group, scores=scores)


class _GivenQuestions:
    def __init__(self, collected: Callable[[int], Collected]) -> None:
        self._collected = collected

    def take(self, step: int) -> Collected:
        return self._collected(step)

    def note_published(self, version: int) -> None:
        """Do nothing: the next step finds the version installed."""

    def learners_turn(self) -> AbstractContextManager[None]:
        return nullcontext()

    def halt(self) -> None:
        """Do nothing: no step is ahead."""

    def begin_anew(self, version: int) -> None:
        """Do nothing: the questions are given."""


class _Nothing:
    """Health, checkpoints and stop request of a run that has none of them."""

    wants_roll_back = False

    def roll_back(self, step: int) -> None:
        raise AssertionError(f"a bench of steps goes back to nothing after step {step}")

    def check(self, report: StepReport) -> None:
        """Accept it."""

    def is_due(self, step: int, *, is_last: bool) -> bool:
        return False

    def write(self, step: int, *, is_last: bool) -> None:
        """Write nothing."""

    def end_if_made(self, step: int) -> None:
        """Go on."""
