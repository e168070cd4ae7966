"""Where an agent's run stands, for the display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sabsim.runs.progress import duration, number


@dataclass(frozen=True, kw_only=True)
class AgentStatus:
    """Figures of training since the last evaluation, and the last evaluation's; None where nothing was measured yet."""

    unit: ClassVar[str] = "steps"

    done: int
    budget: int
    seconds: float
    steps_per_second: float
    overall_rate: float
    episodes: int
    train_return: float | None
    train_success: float | None
    td_error: float | None
    replays_per_update: float | None
    evaluated_return: float | None
    evaluated_success: float | None

    @property
    def seconds_left(self) -> float | None:
        """At the present rate, evaluations included, until the steps are done."""
        return max(0, self.budget - self.done) / self.overall_rate if self.overall_rate > 0 else None

    def line(self) -> str:
        """All figures."""
        success = "" if self.train_success is None else f"  success {number(self.train_success)}"
        evaluated = "" if self.evaluated_success is None else f"  success {number(self.evaluated_success)}"
        return (
            f"{self.done} steps  {self.episodes} episodes  return {number(self.train_return)}{success}  "
            f"evaluated return {number(self.evaluated_return)}{evaluated}  TD error {number(self.td_error)}  "
            f"replays/update {number(self.replays_per_update)}  {self.steps_per_second:.0f} steps/s  "
            f"ETA {duration(self.seconds_left)}"
        )

    def columns(self) -> dict[str, str]:
        """The figures of a live table."""
        success = self.evaluated_success
        evaluated = {"eval return": number(self.evaluated_return)}
        evaluated |= {} if success is None else {"eval success": number(success)}
        return {
            "episodes": f"{self.episodes:,}",
            "return": number(self.train_return),
            **evaluated,
            "|TD|": number(self.td_error),
            "replays": number(self.replays_per_update),
            "steps/s": f"{self.steps_per_second:,.0f}",
            "ETA": duration(self.seconds_left),
        }
