"""The figures of an analysis, each with what a reader needs beside it: a new figure is an entry here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from .replay_figures import causal_fraction_figure, lag_distribution, peri_reward_histogram
from .replay_summary import RunSummary


@dataclass(frozen=True, kw_only=True)
class FigureEntry:
    """A figure by ``name`` (of its files), drawn by ``draw(summaries, title=...)`` where a run has ``measure``.

    ``alt``, ``caption`` and ``caveat`` as in ``report.Panel``.
    """

    name: str
    title: str
    measure: str
    draw: Callable[..., Figure]
    alt: str
    caption: str
    caveat: str


FIGURES = (
    FigureEntry(
        name="lags",
        title="How far back replay reaches",
        measure="lags",
        draw=lag_distribution,
        alt="Bars: share of replays by how many steps they reach back; dashed line: what random sources would give.",
        caption=(
            "How many steps lie between the step that recalled and the step that credit was sent back to. Bars are "
            "shares of all replays, dots single seeds. The dashed line is what would be seen if sources were drawn "
            "evenly from the episode's past."
        ),
        caveat="Bins double in width. A lag that the environment fixes (a cue always as far away) can be a peak by itself.",
    ),
    FigureEntry(
        name="peri_reward",
        title="Replay around reward",
        measure="peri_reward",
        draw=peri_reward_histogram,
        alt="Bars: replays triggered per step, by how many steps before or after a paid step; dashed line: the mean.",
        caption=(
            "How often a step triggers replay, by its distance from a step that was paid (0: the paid step itself). The "
            "dashed line is the mean over all recorded steps."
        ),
        caveat=(
            "Described, not tested. Updates come at fixed times, so that the moment of a replay is exact to one "
            "window only, and the first steps of an episode have nothing to replay. Both shape this histogram "
            "whatever is paid."
        ),
    ),
    FigureEntry(
        name="causal_fraction",
        title="Does replay land on the step that earned the reward?",
        measure="causal",
        draw=causal_fraction_figure,
        alt="Dots: share of replays that hold the causal step, of each seed, beside two kinds of random sources; means.",
        caption=(
            "Share of replays whose replayed steps hold the one that earned the next reward, as the environment "
            "tells. Beside it, the same for sources drawn with the same lags, and evenly from the episode's past. "
            "Dots are seeds, diamonds means with 95 % intervals, grey bars 95 % of a null's draws."
        ),
        caveat=(
            "A high share means little by itself: early in an episode nearly any source lies near the causal step. Where "
            "what matters always lies equally far back, sources with the same lags find it as often."
        ),
    ),
)


def draw_figures(summaries: Sequence[RunSummary]) -> dict[FigureEntry, Figure]:
    """Those figures for which some run has something to draw, in the order of ``FIGURES``."""
    first = summaries[0].run
    seeds = f"{len(summaries)} seeds" if len(summaries) > 1 else f"seed {first.seed}"
    subtitle = f"{first.env}, {first.credit}, {seeds}"
    return {
        entry: entry.draw(summaries, title=f"{entry.title}\n{subtitle}")
        for entry in FIGURES
        if any(getattr(summary, entry.measure) for summary in summaries)
    }
