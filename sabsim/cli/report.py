"""The report of an analysis: an episode to explore is played where that is possible, and everything put on one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sabsim.errors import RunFolderError, SabsimError
from sabsim.runs.progress import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sabsim.agents import Watched
    from sabsim.analysis.compare import Difference
    from sabsim.analysis.folders import Run
    from sabsim.analysis.panels import FigureEntry
    from sabsim.analysis.replay_summary import Across, RunSummary
    from sabsim.analysis.report import Moments
    from sabsim.analysis.statistics import Outcome

_TRIES = 5
"""Episodes played at most to find one that shows something."""
_SIDE = 288
"""Longest side of a frame, in pixels."""


def write_analysis(
    path: Path,
    summaries: Sequence[RunSummary],
    across: Sequence[Across],
    labels: Outcome | str,
    figures: Mapping[FigureEntry, Figure],
    differences: Sequence[Difference] = (),
    *,
    after_step: Callable[[int], None] | None = None,
) -> Path:
    """Write what was measured as a page, with an episode of the first run to explore; ``after_step`` hears of its steps.

    Raises:
        SabsimError: a run folder cannot be read, or the disk refuses
    """
    from sabsim.analysis.replay_answers import comparison_table, missing_measures, replay_answers, replay_tables_shown
    from sabsim.analysis.report import Panel, tell, write_report

    task = summaries[0].task
    panels = [
        Panel(
            title=entry.title_of(task=task),
            figure=figure,
            alt=entry.alt,
            caption=entry.caption,
            caveat=entry.caveat,
        )
        for entry, figure in figures.items()
    ]
    runs = [summary.run.run for summary in summaries]
    return write_report(
        path,
        story=tell(runs, replay_answers(summaries, across, labels)),
        panels=panels,
        tables=[
            *replay_tables_shown(summaries, across),
            *([comparison_table(differences, task=task)] if differences else []),
        ],
        missing=missing_measures(summaries),
        episode=episode_of(runs[0], after_step=after_step),
    )


def episode_of(run: Run, *, after_step: Callable[[int], None] | None = None) -> Moments | str:
    """An episode played by the run's last checkpoint, or else one that it recorded; or why there is none.

    Played are those of an evaluation, until one has both replay and reward.
    """
    from sabsim.analysis.report import recorded_moments

    notes = []
    if run.agent:
        try:
            return _played(run, after_step)
        except SabsimError as error:
            # Whoever reads the page need not know where the folder lies.
            why = str(error).replace(f"'{run.path}': ", "").replace(f"{run.path}/", "")
            notes = [f"There are no pictures, and it is not played anew: {why}."]
    try:
        return recorded_moments(run, notes=notes)
    except RunFolderError as error:
        return " ".join([*notes, str(error)])


def _played(run: Run, after_step: Callable[[int], None] | None) -> Moments:
    from sabsim.agents import drawing_maker, load_agent, watch
    from sabsim.analysis.report import of_episode
    from sabsim.analysis.report.moments import MOST_STEPS
    from sabsim.runs import RunFolder

    parts, checkpoint = load_agent(RunFolder(run.path))
    make, first = drawing_maker(parts.config), parts.config.evaluation_seed
    played: list[Watched] = []
    while len(played) < _TRIES and not (played and _tells(played[-1]) == 2):
        seed = first + len(played)
        played.append(watch(parts.agent, make, seed=seed, most=MOST_STEPS, side=_SIDE, after_step=after_step))
    best = max(played, key=_tells)
    note = _which(best, len(played), f"{checkpoint.numbers['env_steps']:,} steps of training")
    return of_episode(best, title=f"{run.path.resolve().name}, {_outcome(best)}", notes=[note])


def _tells(episode: Watched) -> int:
    """How much there is to see: replay, and reward."""
    return bool(episode.replayed) + bool(episode.reward.any())


def _outcome(episode: Watched) -> str:
    ended = {True: "success", False: "failure", None: "ended"}[episode.success] if episode.over else "cut"
    return f"seed {episode.seed}: {ended}, return {number(float(episode.reward.sum()))} in {len(episode.reward)} steps"


def _which(episode: Watched, tried: int, trained: str) -> str:
    kind = "the first evaluation episode with both replay and reward"
    if _tells(episode) < 2:
        lacking = [what for what, has in (("replay", episode.replayed), ("reward", episode.reward.any())) if not has]
        kind = f"one of the first {tried} evaluation episodes; this one has no {' and no '.join(lacking)}"
    return (
        f"It is {kind}, played after {trained} with actions drawn from the policy. Nothing was learned meanwhile: what is "
        "shown as replayed is what an update would have replayed."
    )
