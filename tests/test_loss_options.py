"""GSPO, CISPO and the importance options: a slow float64 reference, cases computed by hand, rules."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from floe.learner.loss.grpo_loss import grpo_loss

NAN = math.nan
LOSSES = ("grpo", "gspo", "cispo")
IMPORTANCES = ("truncate", "mask_sequence", "none")
SETTINGS = {"clip_low": 0.2, "clip_high": 0.28, "importance_cap": 1.5}

losses = st.sampled_from(LOSSES)
importances = st.sampled_from(IMPORTANCES)
seeds = st.integers(0, 10_000)
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=6)
unhurried = settings(deadline=None)  # the first call into torch can take longer than hypothesis allows


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_sequences(seed: int, lengths: list[int]) -> dict[str, torch.Tensor]:
    """Sequences on both sides of clips and cap, weight and advantage the same for all tokens of one, some NaN."""
    generator = torch.Generator().manual_seed(seed)
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))

    def normal(count: int, spread: float) -> torch.Tensor:
        return spread * torch.randn(count, generator=generator, dtype=torch.float64)

    count, num_sequences = len(sequence), len(lengths)
    old = -normal(count, 1.5).abs()
    engine = old + normal(count, 0.1) + normal(num_sequences, 0.2)[sequence]
    engine[torch.rand(count, generator=generator) < 0.1] = NAN
    return {
        "logprob": old + normal(count, 0.1) + normal(num_sequences, 0.3)[sequence],
        "old_logprob": old,
        "engine_logprob": engine,
        "advantage": normal(num_sequences, 1.0)[sequence],
        "weight": torch.rand(num_sequences, generator=generator, dtype=torch.float64)[sequence],
        "reference_logprob": old + normal(count, 0.5),
        "sequence": sequence,
    }


def loss_and_gradient(tokens: dict[str, torch.Tensor], **options) -> tuple[float, list[float]]:
    logprob = tokens["logprob"].clone().requires_grad_()
    terms = grpo_loss(**(tokens | {"logprob": logprob}), **(SETTINGS | options))
    terms.loss.backward()
    return terms.loss.item(), logprob.grad.tolist()


def slow_correction(log_ratios: list[float], kind: str, cap: float) -> list[float]:
    """Return the factors of one sequence's tokens."""
    if kind == "none":
        return [1.0] * len(log_ratios)
    if kind == "truncate":
        return [min(math.exp(x), cap) for x in log_ratios]
    product = math.prod(math.exp(x) for x in log_ratios)
    return [product if 1 / cap <= product <= cap else 0.0] * len(log_ratios)


def slow_surrogate(
    new: list[float], old: list[float], advantage: float, kind: str, low: float, high: float
) -> tuple[list[float], list[list[float]]]:
    """Return the value of one sequence's tokens and the slope of each with respect to each token's log-probability."""
    count = len(new)
    values, slopes = [], [[0.0] * count for _ in range(count)]
    of_sequence = math.prod(math.exp(n) / math.exp(o) for n, o in zip(new, old, strict=True)) ** (1 / count)
    for t in range(count):
        ratio = of_sequence if kind == "gspo" else math.exp(new[t]) / math.exp(old[t])
        if kind == "cispo":
            weight = min(max(ratio, 1 - low), 1 + high)
            values.append(weight * advantage * new[t])
            slopes[t][t] = weight * advantage
            continue
        limit = 1 + high if advantage >= 0 else 1 - low
        is_clipped = ratio > limit if advantage >= 0 else ratio < limit
        values.append(advantage * (limit if is_clipped else ratio))
        for u in range(count) if kind == "gspo" and not is_clipped else ():
            slopes[t][u] = advantage * ratio / count
        if kind == "grpo" and not is_clipped:
            slopes[t][t] = advantage * ratio
    return values, slopes


def slow_loss(
    tokens: dict[str, torch.Tensor],
    *,
    loss: str,
    importance: str,
    kl_coefficient: float,
    clip_low: float,
    clip_high: float,
    importance_cap: float,
) -> tuple[float, list[float]]:
    """Return the loss and its gradient with respect to each token's log-probability, one sequence at a time."""
    total, gradient = 0.0, [0.0] * len(tokens["sequence"])
    for number in range(int(tokens["sequence"].max()) + 1):
        places = [i for i, one in enumerate(tokens["sequence"].tolist()) if one == number]
        new, old, engine, reference, advantage, weight = (
            [tokens[name][i].item() for i in places]
            for name in ("logprob", "old_logprob", "engine_logprob", "reference_logprob", "advantage", "weight")
        )
        log_ratios = [0.0 if math.isnan(e) else o - e for o, e in zip(old, engine, strict=True)]
        factors = slow_correction(log_ratios, importance, importance_cap)
        values, slopes = slow_surrogate(new, old, advantage[0], loss, clip_low, clip_high)
        for t, place in enumerate(places):
            reference_ratio = math.exp(reference[t]) / math.exp(new[t])
            kl = reference_ratio - math.log(reference_ratio) - 1
            total -= weight[t] * (factors[t] * values[t] - kl_coefficient * kl)
            gradient[place] += weight[t] * kl_coefficient * (1 - reference_ratio)
            for u, other in enumerate(places):
                gradient[other] -= weight[t] * factors[t] * slopes[t][u]
    return total, gradient


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kl_coefficient", [0.0, 0.3])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("importance", IMPORTANCES)
def test_loss_and_gradient_equal_the_slow_reference(seed, kl_coefficient, loss, importance):
    tokens = random_sequences(seed, [3, 1, 5, 2, 8, 1, 4, 6])
    options = {"loss": loss, "importance": importance, "kl_coefficient": kl_coefficient}
    actual_loss, actual_gradient = loss_and_gradient(tokens, **options)
    expected_loss, expected_gradient = slow_loss(tokens, **options, **SETTINGS)
    assert actual_loss == pytest.approx(expected_loss, rel=1e-10)
    assert actual_gradient == pytest.approx(expected_gradient, rel=1e-9, abs=1e-14)


def test_the_random_sequences_meet_clips_and_masks():
    for loss in LOSSES:
        terms = grpo_loss(
            **random_sequences(0, [3, 1, 5, 2, 8, 1, 4, 6]), **SETTINGS, loss=loss, importance="mask_sequence"
        )
        assert terms.clipped.any() and not terms.clipped.all()
        assert terms.importance_cut.any() and not terms.importance_cut.all()


# --- GSPO


@pytest.mark.parametrize(
    ("ratios", "advantage", "ratio", "objective", "is_clipped"),
    [
        ([2.0, 0.5], 1.0, 1.0, 1.0, False),  # the tokens' changes cancel: sqrt(2 * 1/2)
        ([4.0, 1.0], 1.0, 2.0, 1.28, True),  # sqrt(4 * 1): the gain ends at 1 + clip_high for both tokens
        ([4.0, 1.0], -1.0, 2.0, -2.0, False),  # a bad sequence that went up is pulled back
        ([0.25, 1.0], -1.0, 0.5, -0.8, True),
        ([1.21, 1.0], 3.0, 1.1, 3.3, False),
    ],
)
def test_gspo_cases_computed_by_hand(ratios, advantage, ratio, objective, is_clipped):
    old = tensor([-1.0, -2.0])
    terms = grpo_loss(
        logprob=old + tensor(ratios).log(),
        old_logprob=old,
        engine_logprob=old,
        advantage=tensor([advantage] * 2),
        weight=tensor([0.5] * 2),
        sequence=torch.tensor([0, 0]),
        loss="gspo",
        **SETTINGS,
    )
    assert terms.loss.item() == pytest.approx(-objective)
    assert terms.ratio.tolist() == pytest.approx([ratio] * 2)
    assert terms.clipped.tolist() == [is_clipped] * 2


@unhurried
@given(seed=seeds, count=st.integers(1, 6), importance=importances)
def test_gspo_of_sequences_of_one_token_is_grpo(seed, count, importance):
    tokens = random_sequences(seed, [1] * count)
    gspo, grpo = (loss_and_gradient(tokens, loss=loss, importance=importance) for loss in ("gspo", "grpo"))
    assert gspo[0] == pytest.approx(grpo[0], rel=1e-12)
    assert gspo[1] == pytest.approx(grpo[1], rel=1e-12)


@unhurried
@given(seed=seeds, lengths=lengths)
def test_plain_gspo_has_the_gradient_of_gspo_token(seed, lengths):
    tokens = random_sequences(seed, lengths)
    _, gradient = loss_and_gradient(tokens, loss="gspo", importance="none")
    terms = grpo_loss(**tokens, **SETTINGS, loss="gspo", importance="none")
    # GSPO-token, arXiv 2507.18071, eq. 14: the gradient of sg(s) pi_t / sg(pi_t) A is s A at token t.
    expected = torch.where(terms.clipped, 0.0, -tokens["weight"] * terms.ratio * tokens["advantage"])
    assert gradient == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-14)


# --- CISPO


@pytest.mark.parametrize(
    ("ratio", "advantage", "factor", "is_clipped"),
    [
        (1.5, 1.0, 1.28, True),
        (1.1, 2.0, 1.1, False),
        (0.5, 1.0, 0.8, True),
        (0.5, -1.0, 0.8, True),
        (3.0, -1.0, 1.28, True),
    ],
)
def test_cispo_cases_computed_by_hand(ratio, advantage, factor, is_clipped):
    logprob = tensor([-1.0 + math.log(ratio)]).requires_grad_()
    terms = grpo_loss(
        logprob=logprob,
        old_logprob=tensor([-1.0]),
        engine_logprob=tensor([-1.0]),
        advantage=tensor([advantage]),
        weight=tensor([1.0]),
        loss="cispo",
        **SETTINGS,
    )
    terms.loss.backward()
    assert terms.loss.item() == pytest.approx(-factor * advantage * logprob.item())
    assert logprob.grad.item() == pytest.approx(-factor * advantage)  # clipped, and learning all the same
    assert terms.clipped.tolist() == [is_clipped]


# --- what holds for all of them


@unhurried
@given(seed=seeds, lengths=lengths, importance=st.sampled_from(["mask_sequence", "none"]))
def test_without_an_update_since_the_rollout_all_losses_have_one_gradient(seed, lengths, importance):
    tokens = random_sequences(seed, lengths)
    tokens["logprob"] = tokens["old_logprob"]
    grpo, *others = (loss_and_gradient(tokens, loss=loss, importance=importance)[1] for loss in LOSSES)
    for other in others:
        assert other == pytest.approx(grpo, rel=1e-9, abs=1e-15)


@unhurried
@given(seed=seeds, lengths=lengths, loss=losses, importance=importances, data=st.data())
def test_the_order_of_tokens_and_the_numbers_of_sequences_do_not_matter(seed, lengths, loss, importance, data):
    tokens = random_sequences(seed, lengths)
    order = torch.tensor(data.draw(st.permutations(range(len(tokens["sequence"])))))
    numbers = torch.tensor(data.draw(st.permutations(range(len(lengths) + 2))))  # some belong to no token
    shuffled = {name: values[order] for name, values in tokens.items()}
    shuffled["sequence"] = numbers[shuffled["sequence"]]
    options = {"loss": loss, "importance": importance, "kl_coefficient": 0.1}
    plain, other = loss_and_gradient(tokens, **options), loss_and_gradient(shuffled, **options)
    assert other[0] == pytest.approx(plain[0], rel=1e-9, abs=1e-12)
    assert other[1] == pytest.approx([plain[1][i] for i in order.tolist()], rel=1e-9, abs=1e-12)


@unhurried
@given(seed=seeds, lengths=lengths, loss=losses, importance=importances)
def test_a_sequence_of_weight_zero_does_not_matter(seed, lengths, loss, importance):
    tokens = random_sequences(seed, [4, *lengths])
    kept = tokens["sequence"] > 0
    tokens["weight"][~kept] = 0
    without = {name: values[kept] for name, values in tokens.items()}
    options = {"loss": loss, "importance": importance, "kl_coefficient": 0.1}
    whole, part = loss_and_gradient(tokens, **options), loss_and_gradient(without, **options)
    assert whole[0] == pytest.approx(part[0], rel=1e-9, abs=1e-12)
    assert whole[1] == pytest.approx([0.0] * 4 + part[1], rel=1e-9, abs=1e-12)


@unhurried
@given(seed=seeds, lengths=lengths, loss=losses, importance=importances, factor=st.floats(0.01, 100))
def test_a_factor_of_all_advantages_is_a_factor_of_loss_and_gradient(seed, lengths, loss, importance, factor):
    tokens = random_sequences(seed, lengths)
    scaled = tokens | {"advantage": factor * tokens["advantage"]}
    options = {"loss": loss, "importance": importance}
    plain, other = loss_and_gradient(tokens, **options), loss_and_gradient(scaled, **options)
    assert other[0] == pytest.approx(factor * plain[0], rel=1e-9, abs=1e-12)
    assert other[1] == pytest.approx([factor * one for one in plain[1]], rel=1e-9, abs=1e-12)


@unhurried
@given(seed=seeds, lengths=lengths, loss=st.sampled_from(["grpo", "gspo"]), shift=st.floats(-3, 3))
def test_a_shift_of_all_log_probabilities_leaves_the_ratios_alone(seed, lengths, loss, shift):
    tokens = random_sequences(seed, lengths)
    names = ("logprob", "old_logprob", "engine_logprob", "reference_logprob")
    shifted = tokens | {name: tokens[name] + shift for name in names}
    plain, other = (
        loss_and_gradient(some, loss=loss, importance="mask_sequence", kl_coefficient=0.1) for some in (tokens, shifted)
    )
    assert other[0] == pytest.approx(plain[0], rel=1e-8, abs=1e-10)
    assert other[1] == pytest.approx(plain[1], rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize("kl_coefficient", [0.0, 0.2])
@pytest.mark.parametrize("loss", ["grpo", "gspo"])
def test_the_gradient_equals_finite_differences_away_from_the_kinks(loss, kl_coefficient, importance):
    tokens = random_sequences(11, [4, 1, 3, 2])
    # The clips lie at log 0.8 = -0.22 and log 1.28 = 0.25, for tokens and for means over sequences.
    log_ratio = tensor([-0.6, -0.5, -0.7, -0.35, 0.1, 0.4, 0.7, 0.5, -0.1, 0.05])
    logprob = (tokens["old_logprob"] + log_ratio).requires_grad_()

    def value(logprob: torch.Tensor) -> torch.Tensor:
        options = {"loss": loss, "importance": importance, "kl_coefficient": kl_coefficient}
        return grpo_loss(**(tokens | {"logprob": logprob}), **SETTINGS, **options).loss

    assert torch.autograd.gradcheck(value, (logprob,))


def test_the_gradient_of_cispo_equals_finite_differences_at_held_ratios():
    tokens = random_sequences(12, [4, 1, 3, 2])
    _, gradient = loss_and_gradient(tokens, loss="cispo")
    terms = grpo_loss(**tokens, **SETTINGS, loss="cispo")
    factor = terms.ratio.clamp(0.8, 1.28) * terms.importance.clamp(max=1.5)

    def at_held_ratios(logprob: torch.Tensor) -> torch.Tensor:
        return -(tokens["weight"] * factor * tokens["advantage"] * logprob).sum()

    logprob = tokens["logprob"].clone().requires_grad_()
    assert torch.autograd.gradcheck(at_held_ratios, (logprob,))
    at_held_ratios(logprob).backward()
    assert gradient == pytest.approx(logprob.grad.tolist(), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("importance", IMPORTANCES)
def test_only_the_new_log_probabilities_get_a_gradient_through_the_metrics(loss, importance):
    tokens = random_sequences(1, [3, 2])
    tokens["logprob"].requires_grad_()
    terms = grpo_loss(**tokens, **SETTINGS, kl_coefficient=0.1, loss=loss, importance=importance)
    detached = (terms.token_loss, terms.ratio, terms.clipped, terms.log_importance, terms.importance_cut)
    assert terms.loss.requires_grad
    assert not any(one.requires_grad for one in (*detached, terms.kl, terms.kl_k1, terms.kl_k2))
    assert terms.token_loss.sum().item() == pytest.approx(terms.loss.item())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("importance", IMPORTANCES)
def test_no_scored_token_is_a_loss_of_zero(loss, importance):
    tokens = {name: values[:0] for name, values in random_sequences(1, [3]).items()}
    assert grpo_loss(**tokens, **SETTINGS, loss=loss, importance=importance).loss.item() == 0


# --- refusals, and the estimators of the KL


def test_a_kl_coefficient_without_a_reference_is_refused():
    tokens = random_sequences(1, [3]) | {"reference_logprob": None}
    with pytest.raises(ValueError, match=r"0\.1 .*reference"):
        grpo_loss(**tokens, **SETTINGS, kl_coefficient=0.1)


@pytest.mark.parametrize("option", [{"loss": "gspo"}, {"importance": "mask_sequence"}])
def test_what_is_of_sequences_needs_to_know_them(option):
    tokens = random_sequences(1, [3]) | {"sequence": None}
    with pytest.raises(ValueError, match="needs the sequence"):
        grpo_loss(**tokens, **SETTINGS, **option)


def test_k1_and_k2_by_hand_and_in_the_metrics_only():
    # pi = 1/2, pi_ref = 1/4: log 2 and (log 2)^2 / 2
    logprob, reference = tensor([math.log(0.5)]), tensor([math.log(0.25)])
    terms = grpo_loss(
        logprob=logprob,
        old_logprob=logprob,
        engine_logprob=logprob,
        advantage=tensor([0.0]),
        weight=tensor([1.0]),
        reference_logprob=reference,
        kl_coefficient=0.1,
        **SETTINGS,
    )
    k3 = math.log(2) - 0.5
    estimates = (terms.kl_k1.item(), terms.kl_k2.item(), terms.kl.item())
    assert estimates == pytest.approx((math.log(2), math.log(2) ** 2 / 2, k3))
    assert terms.loss.item() == pytest.approx(0.1 * k3)


def test_without_a_coefficient_no_estimator_is_computed():
    terms = grpo_loss(**random_sequences(1, [3]), **SETTINGS)
    assert (terms.kl, terms.kl_k1, terms.kl_k2) == (None, None, None)


@unhurried
@given(logits=st.lists(st.floats(-3, 3), min_size=2, max_size=6), data=st.data())
def test_k1_and_k3_are_unbiased(logits, data):
    """Their mean over all tokens of a vocabulary, each with its probability, is the KL divergence itself."""
    others = data.draw(st.lists(st.floats(-3, 3), min_size=len(logits), max_size=len(logits)))
    policy, reference = tensor(logits).log_softmax(0), tensor(others).log_softmax(0)
    divergence = torch.nn.functional.kl_div(reference, policy, reduction="sum", log_target=True)
    terms = grpo_loss(
        logprob=policy,
        old_logprob=policy,
        engine_logprob=policy,
        advantage=torch.zeros_like(policy),
        weight=policy.exp(),
        reference_logprob=reference,
        kl_coefficient=1.0,
        **SETTINGS,
    )
    assert (policy.exp() * terms.kl_k1).sum().item() == pytest.approx(divergence.item(), abs=1e-12)
    assert terms.loss.item() == pytest.approx(divergence.item(), abs=1e-12)
