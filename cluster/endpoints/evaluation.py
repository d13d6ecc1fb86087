"""The evaluation of a model behind an endpoint: asked first, then judged as a local policy's answers are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.cluster.endpoints.asking import Asking, ask_all
from floe.cluster.endpoints.kept_answers import answers_folder, kept_answers
from floe.cluster.endpoints.policy import EndpointPolicy
from floe.cluster.endpoints.protocol import CHAT, SEEDS, Ask, ended
from floe.cluster.evaluation.asked_questions import Asked
from floe.cluster.evaluation.harness import Answered, Harness
from floe.cluster.evaluation.records import evaluation_of
from floe.cluster.evaluation.saved_evaluation import Evaluation
from floe.cluster.messages import (
    AdapterManifest,
    AdapterReceipt,
    Completion,
    GroupRequest,
    Question,
    RolloutGroup,
    Score,
    ScoreRequest,
)
from floe.cluster.preparation.clock import decided_reward
from floe.cluster.terminal.progress import Progress
from floe.configs.schema import RunConfig
from floe.reward_service.scorer_pool import ScorerPool

BASE_VERSION = -1  # adapter version of a completion that no adapter of floe's has sampled


def endpoint_evaluation(
    config: RunConfig,
    asked: Asked,
    endpoint: EndpointPolicy,
    progress: Progress,
    answers_dir: Path | None = None,
    *,
    greedy_alone: bool = False,
) -> Evaluation:
    """Have the model behind an endpoint answer the questions, and return its evaluation. Starts no engine and no Ray.

    Answers are kept in `answers_dir`, without it in a folder of `run.home`; kept ones are not asked for again. With
    `greedy_alone` the greedy answer counts as the one sample too. Questions without an answer are left out and named.
    Raises UserError for an endpoint that can't be used or gives too few answers, and for a key that is not set.
    """
    config = config.model_copy(update={"reward": decided_reward(config.reward)})
    key = endpoint.key()
    questions = asked.fitting
    with closing(_PoolRewards(config, asked.databases_dir)) as rewards:
        harness = Harness(
            config,
            asked.encoder,
            _NoAnswers(),
            rewards,
            config.evaluation.num_timings,
            answer_start="" if endpoint.api == CHAT else None,
        )
        requests = _requests(harness, questions, greedy_alone)
        wanted = {request.group_id: _asks(request, asked.encoder, endpoint) for request in requests}
        progress.phase(f"{len(questions)} questions to {endpoint.name}")
        folder = answers_folder(config.run.home_dir, endpoint) if answers_dir is None else answers_dir
        with kept_answers(folder) as kept:
            if kept.num_damaged:
                progress.note(f"{kept.path} has {kept.num_damaged} damaged lines: their answers are asked for again")
            asks = [ask for of_group in wanted.values() for ask in of_group]
            max_failed_share = config.run.max_dropped_share
            asking = ask_all(endpoint, key, asks, kept, max_failed_share, progress.answers)
            progress.note(f"answers are kept in {kept.path}, {len(asking.kept_keys)} of these were there already")
        given = _GivenAnswers(endpoint, asked.encoder.stop_texts, wanted, asking)
        failed = given.failures()
        answered_questions = [one for one in questions if one.question_id not in failed]
        progress.phase(f"judging of {len(answered_questions)} questions")
        answered = _answered(replace(harness, rollouts=given), answered_questions, greedy_alone)
    evaluation = evaluation_of(config, asked, answered, None)
    return replace(
        evaluation,
        identity=replace(evaluation.identity, model=endpoint.name),
        left_out=(*(f"{name}: {why}" for name, why in failed.items()), *evaluation.left_out),
        endpoint=asking.use(endpoint),
    )


def _requests(harness: Harness, questions: Sequence[Question], greedy_alone: bool) -> list[GroupRequest]:
    requests = harness.requests(questions, harness.config.evaluation.temperature)
    return [one for one in requests if one.temperature == 0] if greedy_alone else requests


def _answered(harness: Harness, questions: Sequence[Question], greedy_alone: bool) -> Answered:
    if not greedy_alone:
        return harness.answers("", questions, None, harness.config.evaluation.temperature)
    return harness.greedy_alone("", questions, None)


def _asks(request: GroupRequest, encoder: PromptEncoder, endpoint: EndpointPolicy) -> list[Ask]:
    content = encoder.messages if endpoint.api == CHAT else encoder.sent_text
    said = content(request.question)
    return [
        Ask(
            question_id=request.question.question_id,
            content=said,
            num_prompt_tokens=len(request.prompt_token_ids),
            sample=sample,
            temperature=request.temperature,
            max_new_tokens=request.max_new_tokens,
            seed=(request.seed + sample) % SEEDS if request.temperature > 0 else None,
        )
        for sample in range(request.num_samples)
    ]


class _NoAnswers:
    """Rollouts before anything is asked."""

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterable[RolloutGroup]:
        raise NotImplementedError

    def install(self, manifest: AdapterManifest) -> list[AdapterReceipt]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _GivenAnswers(_NoAnswers):
    """Rollouts that are there already: the endpoint's answers."""

    endpoint: EndpointPolicy
    stop_texts: tuple[str, ...]
    wanted: dict[str, list[Ask]]  # by the request's group id
    asking: Asking

    def generate(self, requests: Sequence[GroupRequest], adapter_version: int | None) -> Iterator[RolloutGroup]:
        for request in requests:
            yield RolloutGroup(
                group_id=request.group_id,
                question=request.question,
                prompt_token_ids=request.prompt_token_ids,
                temperature=request.temperature,
                seed=request.seed,
                completions=tuple(self._completion(ask) for ask in self.wanted[request.group_id]),
            )

    def failures(self) -> dict[str, str]:
        """Return why, by the id of each question that lacks an answer."""
        failed: dict[str, str] = {}
        for ask in (ask for asks in self.wanted.values() for ask in asks):
            why = self.asking.failures.get(self._key(ask))
            if why is not None:
                failed.setdefault(ask.question_id, why)
        return failed

    def _completion(self, ask: Ask) -> Completion:
        reply = self.asking.replies[self._key(ask)]
        text = ended(reply.text, self.stop_texts)
        return Completion(
            text=text,
            token_ids=(),
            logprobs=(),
            truncated=reply.is_truncated and text == reply.text,
            oldest_adapter_version=BASE_VERSION,
            newest_adapter_version=BASE_VERSION,
        )

    def _key(self, ask: Ask) -> str:
        return ask.key(self.endpoint.url, self.endpoint.model)


class _PoolRewards:
    """The reward service in threads of this process, as `floe score` has it."""

    def __init__(self, config: RunConfig, databases_dir: Path) -> None:
        self._pool = ScorerPool(databases_dir, config.reward, config.run.plugin_folder, config.prompt)

    def submit(self, request: ScoreRequest) -> Iterator[tuple[Score, ...]]:
        return self._pool.score_all([request])

    def result(self, ticket: Iterator[tuple[Score, ...]]) -> tuple[Score, ...]:
        return next(ticket)

    def close(self) -> None:
        self._pool.close()
