"""A step's report on its micro-batches, and the questions it names when a loss is not finite."""

import dataclasses
import math

import pytest
import torch

from floe.cluster.messages import StepReport
from floe.learner.loss.grpo_loss import LossTerms, grpo_loss
from floe.learner.loss.offenders import largest_losses
from floe.learner.packing.packs import Branch, Pack, PrefixGroup, make_packs
from floe.learner.step_meter import StepMeter

NAN, INF = math.nan, math.inf
SETTINGS = {"clip_low": 0.2, "clip_high": 0.28, "importance_cap": 2.0}


def pack_of(engine_logprobs: list[tuple[float, ...]], names: list[str] | None = None) -> Pack:
    """Make one branch per tuple, each of its own group; advantage and weight 1."""
    groups = [
        PrefixGroup(
            prefix_ids=(1,),
            branches=(Branch(token_ids=(2,) * len(one), weight=1.0, advantage=1.0, engine_logprobs=one),),
            name="q" if names is None else names[number],
        )
        for number, one in enumerate(engine_logprobs)
    ]
    (pack,) = make_packs(groups, 1000)
    return pack


def terms_of(pack: Pack, logprob: float | torch.Tensor = -1.0, **options) -> LossTerms:
    """Return terms under a policy that gave every token the log-probability -1 at the start of the batch."""
    old = torch.full_like(pack.weight, -1.0)
    return grpo_loss(
        logprob=old + (logprob + 1.0),
        old_logprob=old,
        engine_logprob=pack.engine_logprob,
        advantage=pack.advantage,
        weight=pack.weight,
        sequence=pack.sequence,
        **(SETTINGS | options),
    )


def report_of(*micro_batches: tuple[Pack, LossTerms]) -> StepReport:
    meter = StepMeter()
    for pack, terms in micro_batches:
        meter.add(pack, terms)
    return meter.report(step=1, learning_rate=1e-5, num_groups=1)


def test_the_mismatch_over_all_micro_batches_by_hand():
    first, second = pack_of([(-1.0, -1.5)]), pack_of([(-2.0, NAN)])
    report = report_of((first, terms_of(first)), (second, terms_of(second)))
    assert (report.logprob_mismatch_mean, report.logprob_mismatch_max) == pytest.approx((0.5, 1.0))
    assert (report.num_nan_logprobs, report.trained_tokens) == (1, 4)
    assert report.importance_truncated_share == 0.25  # e^1 > 2
    weights = [1.0, math.exp(0.5), math.e, 1.0]
    assert report.effective_sample_size == pytest.approx(sum(weights) ** 2 / (4 * sum(w * w for w in weights)))
    assert report.loss == pytest.approx(-(1 + math.exp(0.5) + 2 + 1))


@pytest.mark.parametrize("importance", ["truncate", "mask_sequence", "none"])
@pytest.mark.parametrize("missing", [-INF, INF, NAN])
def test_an_engine_without_a_number_leaves_every_figure_a_number(missing, importance):
    pack = pack_of([(missing, -1.0), (-1.0,)])
    report = report_of((pack, terms_of(pack, importance=importance)))
    assert all(math.isfinite(value) for value in dataclasses.asdict(report).values() if value is not None)
    assert (report.num_nan_logprobs, report.effective_sample_size, report.loss) == (1, 1.0, -3.0)


def test_a_ratio_too_large_for_float32_leaves_the_effective_sample_size_a_number():
    pack = pack_of([(-1.0, -500.0)])
    assert report_of((pack, terms_of(pack))).effective_sample_size == pytest.approx(0.5)


def test_the_share_dropped_is_of_tokens():
    pack = pack_of([(-2.0, -1.0), (-1.0,)])
    report = report_of((pack, terms_of(pack, importance="mask_sequence")))
    assert report.importance_truncated_share == pytest.approx(2 / 3)
    assert report_of((pack, terms_of(pack, importance="none"))).importance_truncated_share == 0


def test_the_three_estimators_of_the_kl():
    pack = pack_of([(-1.0, -1.0)])
    reference = torch.tensor([-1.0, -1.5])
    report = report_of((pack, terms_of(pack, reference_logprob=reference, kl_coefficient=0.1)))
    k3 = (math.exp(-0.5) + 0.5 - 1) / 2
    assert (report.kl_k1, report.kl_k2, report.kl) == pytest.approx((0.25, 0.0625, k3))
    without = report_of((pack, terms_of(pack)))
    assert (without.kl, without.kl_k1, without.kl_k2) == (None, None, None)


def test_a_step_without_a_micro_batch_reports_zeros():
    report = report_of()
    assert (report.loss, report.effective_sample_size, report.trained_tokens, report.kl) == (0, 0.0, 0, None)


# --- whom to look at


def test_the_largest_losses_by_question_and_value():
    pack = pack_of([(-1.0,), (-1.0, -1.0, -1.0), (-1.0, -1.0)], names=["q1", "q2", "q3"])
    assert largest_losses([pack], [terms_of(pack)]) == "q2 -3, q3 -2, q1 -1"
    assert largest_losses([pack], [terms_of(pack)], limit=1) == "q2 -3"


@pytest.mark.parametrize("broken", [NAN, INF])
def test_what_is_not_finite_comes_first_in_whichever_micro_batch(broken):
    packs = [pack_of([(-1.0, -1.0)], names=["q1"]), pack_of([(-1.0,), (-1.0,)], names=["q2", "q3"])]
    logprob = torch.tensor([-1.0, broken])
    terms = [terms_of(packs[0]), terms_of(packs[1], logprob, loss="cispo")]
    named = largest_losses(packs, terms, limit=2)
    assert named.startswith("q3 ") and named.endswith(", q1 -2")


def test_a_question_is_named_once_with_its_worst_completion():
    pack = pack_of([(-1.0,), (-1.0, -1.0), (-1.0,)], names=["q1", "q1", "q2"])
    assert largest_losses([pack], [terms_of(pack)]) == "q1 -2, q2 -1"


def test_branches_without_a_scored_token_have_no_loss():
    scored = Branch(token_ids=(2, 3), weight=1.0, advantage=1.0, engine_logprobs=(-1.0, -1.0))
    unscored = Branch(token_ids=(2,), loss_from=1, weight=1.0)
    groups = [
        PrefixGroup(prefix_ids=(1,), branches=(one,), name=name) for one, name in ((scored, "a"), (unscored, "b"))
    ]
    (pack,) = make_packs(groups, 1000)
    assert largest_losses([pack], [terms_of(pack)]) == "a -2"
