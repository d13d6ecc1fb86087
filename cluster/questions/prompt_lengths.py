"""Lengths of prompts, and counts of those trimmed or refused (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from floe.actors.prompting.prompt_fitting import EncodedPrompt
from floe.actors.prompting.trimming import Trimming


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptBudget:
    """Lengths of prompts in tokens before any trimming; `longest_sent` is the longest that fits after it."""

    num_questions: int
    median: int
    p95: int
    longest: int
    longest_sent: int
    num_trimmed: dict[Trimming, int]  # counts of those sent, by what was trimmed last
    num_refused: int

    @property
    def trimmed_share(self) -> float:
        return sum(self.num_trimmed.values()) / self.num_questions

    @property
    def refused_share(self) -> float:
        return self.num_refused / self.num_questions

    def sentence(self, max_tokens: int) -> str:
        """Return the sentence that `floe train` and `floe prepare` print."""
        trimmed = f"{100 * self.trimmed_share:.1f} % trimmed"
        if self.num_trimmed:
            trimmed += f" ({', '.join(f'{step} {number:,}' for step, number in self.num_trimmed.items())})"
        return (
            f"longest prompt {self.longest:,} tokens of {max_tokens:,}, {trimmed}, "
            f"{100 * self.refused_share:.1f} % refused ({self.num_refused:,})"
        )


def budget_of(encoded: Iterable[EncodedPrompt]) -> PromptBudget:
    """Sum up the prompts. Raises ValueError where there is no prompt."""
    prompts = list(encoded)
    if not prompts:
        raise ValueError("there are no prompts to sum up")
    lengths = [prompt.num_whole_tokens for prompt in prompts]
    # An observed length, so that every figure belongs to a prompt.
    median, p95 = (int(np.percentile(lengths, share, method="inverted_cdf")) for share in (50, 95))
    sent = [prompt for prompt in prompts if not prompt.refused]
    steps = Counter(prompt.trimming for prompt in sent)
    return PromptBudget(
        num_questions=len(prompts),
        median=median,
        p95=p95,
        longest=max(lengths),
        longest_sent=max((prompt.num_tokens for prompt in sent), default=0),
        num_trimmed={step: steps[step] for step in Trimming if step is not Trimming.NONE and steps[step]},
        num_refused=len(prompts) - len(sent),
    )
