"""The figures of an analysis, each with what a reader needs beside it: a new figure is an entry here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from .compare import names_of
from .replay_figures import causal_fraction_figure, lag_distribution, peri_reward_histogram
from .replay_maps import comparison_figure, order_figure, place_map_figure, recall_map_figure
from .replay_summary import RunSummary


@dataclass(frozen=True, kw_only=True)
class FigureEntry:
    """A figure by ``name`` (of its files), drawn by ``draw(summaries, title=...)`` where a run has ``measure``.

    ``task_title``: the title in a supervised task, where it differs. ``alt``, ``caption`` and ``caveat``: as in
    ``report.Panel``.
    """

    name: str
    title: str
    measure: str
    draw: Callable[..., Figure]
    alt: str
    caption: str
    caveat: str
    task_title: str = ""

    def title_of(self, *, task: bool) -> str:
        """The title in an agent's run or a supervised one."""
        return self.task_title if task and self.task_title else self.title


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
            "black line is the same around comparable steps that were not paid: of the same part of training, position in "
            "the episode and place in the window. The dashed line is the mean over all recorded steps."
        ),
        caveat=(
            "The shape alone is no sign of reward: updates come at fixed times, so that the moment of a replay is exact to "
            "one window only, and the first steps of an episode have nothing to replay. What counts is the difference "
            "from the black line; where it is missing, no unpaid step is comparable."
        ),
        task_title="Replay around the scored steps",
    ),
    FigureEntry(
        name="causal_fraction",
        title="Does replay land on the step that earned the reward?",
        task_title="Does replay land on the step that showed what is wanted?",
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
    FigureEntry(
        name="order",
        title="Is the past replayed forwards or backwards?",
        measure="sequences",
        draw=order_figure,
        alt="Left: shares of forward and reverse events, of each seed; right: forwardness minus backwardness by lag.",
        caption=(
            "Five consecutive triggers make an event: forward if later triggers replay later experience, reverse if "
            "earlier. The dashed lines are what sources with the same lags give. Right: the field's measure of the same "
            "(TDLM), over all triggers."
        ),
        caveat=(
            "Within one replay credit runs backwards by construction; this is about the order of replays. Replay of what "
            "lies always as far back drifts forward with the agent, which is why lines at 0 would be the wrong comparison."
        ),
    ),
    FigureEntry(
        name="recall_map",
        title="What each step recalls",
        measure="recall",
        draw=recall_map_figure,
        alt="Three maps: recall weight by recalling step and recalled step, early, midway and late in training.",
        caption=(
            "How much each step of an episode (up) recalls each earlier one (right), in the first, second and last third "
            "of the training that was recorded; mean over sequences and seeds."
        ),
        caveat="Recall is not replay: what is recalled gets credit only if a learning signal reaches it.",
    ),
    FigureEntry(
        name="place_map",
        title="Which place is replayed from where",
        measure="places",
        draw=place_map_figure,
        alt="Map: share of replays from each place to each other place.",
        caption="Of the replays triggered at each place (up), the share that goes to each other place (right).",
        caveat="Places are those that the environment tells, in its own numbers; not all environments do.",
    ),
)
COMPARISON = FigureEntry(
    name="comparison",
    title="Two sets of runs",
    measure="run",
    draw=comparison_figure,
    alt="A small panel for each number: the seeds of both sets as dots, with their means and intervals.",
    caption="Each number that both sets have: seeds as dots, means with 95 % intervals; dashed: 0.",
    caveat="Every number has a scale of its own. The tests are in the table of the comparison.",
)
"""Drawn where there is a second set of runs to set beside the first."""


def draw_figures(summaries: Sequence[RunSummary], others: Sequence[RunSummary] = ()) -> dict[FigureEntry, Figure]:
    """Those figures for which some run has something to draw, in the order of ``FIGURES``, then the comparison."""
    first = summaries[0].run
    seeds = f"{len(summaries)} seeds" if len(summaries) > 1 else f"seed {first.seed}"
    subtitle = f"{first.what}, {first.credit}, {seeds}"
    drawn = {
        entry: entry.draw(summaries, title=f"{entry.title_of(task=summaries[0].task)}\n{subtitle}")
        for entry in FIGURES
        if any(getattr(summary, entry.measure) for summary in summaries)
    }
    if others:
        title = f"{COMPARISON.title}\nthese: {names_of(summaries)}; those: {names_of(others)}"
        drawn[COMPARISON] = COMPARISON.draw(summaries, others, title=title)
    return drawn
