"""The top of the page in plain language: what was run, and whether it learned; then the answers about its replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sabsim.errors import RunFolderError

from ..folders import Run
from ..statistics import mean_interval
from .overview import overview
from .parts import Answer, Story
from .score import Score, score

_RULES = {
    "sab": "sparse attentive backtracking (SAB): what was recalled is replayed, and credit jumps to it",
    "no-replay": "recall without replay: no credit goes back through what was recalled",
    "tbptt": "truncated backpropagation through the last steps; nothing is recalled",
    "immediate": "credit for the present step alone",
    "memoryless": "every step begins from zero",
    "bptt": "backpropagation through whole episodes",
    "rtu": "recurrent trace units with exact real-time recurrent learning",
}
"""Credit rules in words; another one is shown by its name."""

_REVISION = 10
"""Characters of a revision that are shown."""


def tell(runs: Sequence[Run], answers: Sequence[Answer]) -> Story:
    """The story of ``runs``, seeds of one experiment: what was run and whether it learned, then ``answers``.

    Raises RunFolderError: if a database cannot be read.
    """
    first = runs[0]
    what = _what(first)
    seeds = [str(_group(run, "run").get("seed")) for run in runs]
    subtitle = f"seed {seeds[0]}" if len(runs) == 1 else f"{len(runs)} seeds ({', '.join(seeds)})"
    return Story(
        title=f"Replay and credit in {what}",
        subtitle=f"{_group(first, 'learner').get('credit')}, {subtitle}",
        answers=[_what_was_run(runs), _did_it_learn(runs), *answers],
        picture=overview(runs),
        made_by=_made_by(first),
    )


def _what(run: Run) -> str:
    """Environment or task with its arguments."""
    name, given = ("env", "env_args") if run.agent else ("task", "task_options")
    options = run.config.get(given)
    told = ", ".join(f"{key} {value}" for key, value in options.items()) if isinstance(options, Mapping) else ""
    return f"{run.config.get(name)} ({told})" if told else str(run.config.get(name))


def _what_was_run(runs: Sequence[Run]) -> Answer:
    first = runs[0]
    learner, options = _group(first, "learner"), _group(first, "run")
    credit = str(learner.get("credit"))
    who = "An agent acted" if first.agent else "A learner was trained"
    kind = "environments" if first.agent else "streams"
    amounts = {_amount(run) for run in runs}
    sentences = [
        f"{who} in {_what(first)}, online, in {options.get('streams')} {kind} side by side: {' or '.join(sorted(amounts))}"
        + (f" for each of {len(runs)} seeds." if len(runs) > 1 else "."),
        f"Its credit rule is {_RULES.get(credit, credit)}.",
    ]
    slots, window = learner.get("slots"), learner.get("window") or learner.get("k_trunc")
    if slots and window:
        sentences.append(f"It keeps at most {slots} past moments of each; credit without a jump goes back {window} steps.")
    unfinished = [run.path.resolve().name for run in runs if not run.summary]
    if unfinished:
        sentences.append(f"Not finished: {', '.join(unfinished)}. What is here is what has been recorded so far.")
    verdict = "Not finished" if unfinished else " or ".join(sorted(amounts))
    return Answer(question="What was run?", verdict=verdict, sentences=sentences)


def _amount(run: Run) -> str:
    """How much training there was."""
    unit = "environment steps" if run.agent else "training sequences"
    done = run.summary.get("steps" if run.agent else "sequences")
    if isinstance(done, int):
        return f"{done:,} {unit}"
    column = "env_steps" if run.agent else "sequences"
    ((last,),) = run.rows(f"SELECT max({column}) FROM metrics")
    return f"{last or 0:,} {unit} or more so far"


def _did_it_learn(runs: Sequence[Run]) -> Answer:
    question = "Did it learn?"
    try:
        scores = [score(run) for run in runs]
    except RunFolderError as error:
        return Answer(question=question, verdict="Cannot say", sentences=[f"Because: {error}."])
    first = scores[0]
    if any(found.name != first.name for found in scores):
        return Answer(question=question, verdict="Cannot say", sentences=["Because the runs have different scores."])
    sentences = [*([_one(first)] if len(scores) == 1 else _several(scores)), *([first.aside] if first.aside else [])]
    reasons = [reason for found in scores if (reason := found.undecided())]
    if reasons:
        return Answer(question=question, verdict="Cannot say", sentences=[*sentences, reasons[0]])
    learned = sum(found.learned() for found in scores)
    if len(scores) == 1:
        verdict = "Yes" if learned else "No sign of it"
    else:
        verdict = f"{'Yes, ' if learned == len(scores) else ''}{learned} of {len(scores)} seeds"
    better = "above" if first.better > 0 else "below"
    rule = (
        f"A run counts as having learned if the whole interval of its own score lies {better} that; to have learned what "
        "needs no memory counts too."
    )
    return Answer(question=question, verdict=verdict, sentences=[*sentences, rule])


def _one(found: Score) -> str:
    interval = f" [{_shown(found, found.low)}, {_shown(found, found.high)}]" if found.low is not None else ""
    return f"{_opening(found)}{_shown(found, found.estimate)}{interval} over {found.cases}{_beside(found, found.before)}."


def _several(scores: Sequence[Score]) -> list[str]:
    first, interval = scores[0], mean_interval([found.estimate for found in scores])
    known = [found.before for found in scores if found.before is not None]
    limits = f" [{_shown(first, interval.low)}, {_shown(first, interval.high)}]" if interval.low is not None else ""
    each = ", ".join(_shown(first, found.estimate) for found in scores)
    return [
        f"{_opening(first)}{_shown(first, interval.estimate)}{limits}, the mean over {len(scores)} seeds ({each})"
        f"{_beside(first, sum(known) / len(known) if known else None)}.",
        f"The mean has {interval.method}." if interval.low is None else f"The interval of the mean: {interval.method}.",
    ]


def _opening(found: Score) -> str:
    return f"{found.name[0].upper()}{found.name[1:]} was "


def _beside(found: Score, before: float | None) -> str:
    return "" if before is None else f"; {found.without}: {_shown(found, before)}"


def _shown(found: Score, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if found.share else f"{value:.3g}"


def _made_by(run: Run) -> str:
    made = _group(run, "made_by")
    told = {name: str(made[name]) for name in ("sabsim", "git", "torch", "date") if made.get(name)}
    return ", ".join(f"{name} {value[:_REVISION] if name == 'git' else value}" for name, value in told.items())


def _group(run: Run, name: str) -> Mapping[str, Any]:
    """A group of options; empty if the file has none of it."""
    found = run.config.get(name)
    return found if isinstance(found, Mapping) else {}
