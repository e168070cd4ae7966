"""The numbers of `sabsim analyze`: what each is called, and which are 0 if replay knows nothing."""

from __future__ import annotations

LABELS = {
    "replays_per_step": "replays per step",
    "replays_per_episode": "replays per episode",
    "remindings_per_step": "remindings per step",
    "median_lag": "median lag (steps)",
    "near_reward": "ln rate near / far from reward",
    "near_reward_matched": "ln rate near reward / near comparable steps",
    "at_reward_matched": "ln rate at reward / at comparable steps",
    "causal_fraction": "replays onto the causal step",
    "causal_above_lag_matched": "... above lag-matched sources",
    "causal_above_uniform": "... above uniform sources",
    "causal_credit": "credit onto the causal step",
    "causal_credit_above_lag_matched": "... above lag-matched sources",
    "causal_credit_above_uniform": "... above uniform sources",
    "causal_at_outcome": "replays onto it, at the outcome",
    "causal_at_outcome_above_uniform": "... above uniform sources",
    "credit_with_td_error": "credit and |TD error|, rho",
    "credit_with_reward": "credit and |reward|, rho",
    "credit_with_loss": "credit and loss, rho",
    "credit_rewarded": "log10 credit, rewarded minus others",
    "forward": "forward events",
    "reverse": "reverse events",
    "order_above_lag_matched": "order r above lag-matched sources",
    "straight_above_walk": "straight events above random walks",
    "visits_above_lag_matched": "rank by visits above lag-matched",
    "recency_above_lag_matched": "rank by recency above lag-matched",
}
"""The numbers that a run gives, and what they are called on the terminal and in figures."""

TASK_LABELS = {
    "near_reward": "ln rate near / far from scored steps",
    "near_reward_matched": "ln rate near scored / near comparable steps",
    "at_reward_matched": "ln rate at scored / at comparable steps",
    "credit_rewarded": "log10 credit, wrong answers minus right",
}
"""What they are called in supervised tasks, where it differs: scored steps instead of paid ones."""

TESTED = (
    "near_reward_matched",
    "at_reward_matched",
    "causal_above_lag_matched",
    "causal_above_uniform",
    "causal_credit_above_lag_matched",
    "causal_credit_above_uniform",
    "causal_at_outcome_above_uniform",
    "credit_with_td_error",
    "credit_with_reward",
    "credit_with_loss",
    "credit_rewarded",
    "order_above_lag_matched",
    "straight_above_walk",
    "visits_above_lag_matched",
    "recency_above_lag_matched",
)
"""Those that are 0 if replay knows nothing, and so are tested across seeds.

`near_reward` is not: where rewards come at fixed positions, the clock of updates and the empty memory at an episode's
beginning make it anything."""


def full_label(name: str, *, task: bool) -> str:
    """The same where it stands alone: "... above uniform sources" says of what."""
    text = label(name, task=task)
    if not text.startswith("..."):
        return text
    names = list(LABELS)
    before = next(other for other in reversed(names[: names.index(name)]) if not LABELS[other].startswith("..."))
    return f"{label(before, task=task)},{text.removeprefix('...')}"


def label(name: str, *, task: bool) -> str:
    """What a number is called in an agent's run or a supervised one."""
    return TASK_LABELS.get(name, LABELS[name]) if task else LABELS[name]
