"""The Ambrose experiment: what is counted where, planted effects, the plan, and the command."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sabsim.agents import AGENT_TABLES, ambrose
from sabsim.agents.ambrose import ARMS, QUICK, Sizes, plan, work
from sabsim.analysis.ambrose import contrast, findings, published_effect
from sabsim.analysis.ambrose_figure import ambrose_figure
from sabsim.analysis.ends import Animal, End, Visits, read_animal

from sabsim.cli import experiment, main
from sabsim.errors import RunFolderError
from sabsim.runs import Display
from sabsim.runs.database import RunDatabase
from sabsim.runs.sweep import Planned, Swept

LAST = 2


def make_run(path: Path, places: list[int], epochs: list[int], events: list[tuple[str, int, float | None]]) -> Path:
    """A run on a track of three places, one session; `events`: kind, the step that counts for it, and credit."""
    path.mkdir(parents=True)
    config = {
        "format": 4,
        "kind": "agent",
        "env": "sabsim/LinearTrack-v0",
        "env_args": {"length": LAST + 1, "changed_end": 1},
        "learner": {"window": 1},
        "run": {"seed": 5},
    }
    (path / "config.json").write_text(json.dumps(config))
    database = RunDatabase(path / "run.sqlite", AGENT_TABLES)
    database.insert(
        "steps",
        [
            (t, 0, 0, t, 1, 0.0, 0.0, 0.1 * t, 0.0, place, epoch, "", None)
            for t, (place, epoch) in enumerate(zip(places, epochs, strict=True))
        ],
    )
    database.insert("events", [_event(*event) for event in events])
    database.commit()
    database.close()
    return path


def _event(kind: str, at: int, credit: float | None) -> tuple[Any, ...]:
    # The recalling step of a replay is another one: it must not matter.
    step, update = (at - 1, at) if kind == "replay" else (at, None)
    return (kind, step, 0, 0, step - 1, 1, 0.5, credit, None, 0.0, 0.0, None, update)


def test_what_is_counted_at_which_end(tmp_path: Path) -> None:
    """0 -> 2, dwell there a step, turn back half way and return (no arrival), -> 0, -> 2 in the second epoch."""
    #         t: 0  1  2  3  4  5  6  7  8  9  10 11
    places = [0, 1, 2, 2, 1, 2, 1, 0, 1, 2, 2, 1]
    epochs = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    events: list[tuple[str, int, float | None]] = [
        ("replay", 1, 2.0),  # leads to 2: counts there
        ("replay", 2, 0.5),  # stays at 2
        ("replay", 3, 9.0),  # leaves 2: nowhere
        ("replay", 4, 0.25),  # back at 2, no arrival
        ("replay", 6, 1.0),  # arrives at 0
        ("replay", 8, 4.0),
        ("replay", 8, 3.0),
        ("reminding", 2, None),
        ("reminding", 3, None),
        ("reminding", 7, None),
        ("reminding", 8, None),  # under way
    ]
    animal = read_animal(make_run(tmp_path / "run", places, epochs, events), arm="sab", session="4x")
    assert (animal.seed, animal.sessions) == (5, 1)
    found = {(end.epoch, end.changed): end for end in animal.ends}
    td = [0.1 * t for t in range(12)]
    assert found[0, True] == End(
        epoch=0, changed=True, laps=1, steps=3, replay=3, reminding=2, credit=2.75, td_error=pytest.approx(td[1])
    )
    assert found[0, False] == End(
        epoch=0, changed=False, laps=1, steps=1, replay=1, reminding=1, credit=1.0, td_error=pytest.approx(td[6])
    )
    assert found[1, True] == End(
        epoch=1, changed=True, laps=1, steps=2, replay=2, reminding=0, credit=7.0, td_error=pytest.approx(td[8])
    )
    nothing = found[1, False]
    assert (nothing.laps, nothing.steps, nothing.replay) == (0, 0, 0)
    visits = animal.visits
    assert visits.changed.tolist() == [True, False, True]
    assert visits.epoch.tolist() == [0, 0, 1]
    # The first visit ends when 2 is left at step 3; coming back is no visit.
    assert visits.replay.tolist() == [2, 1, 2]
    assert visits.credit.tolist() == [2.5, 1.0, 7.0]
    assert visits.lap.tolist() == [0, 0, 0]
    assert animal.ratio("replay", 0) == pytest.approx(np.log(3.5 / 1.5))
    assert animal.ratio("credit", 0) == pytest.approx(np.log(2.75))
    assert animal.ratio("replay", 0, "stationary step") == pytest.approx(np.log(3.5 / 1.5 / 3))
    assert animal.ratio("replay", 1) is None
    assert animal.effect("replay") is None


def test_visits_of_each_end_are_counted_on_their_own(tmp_path: Path) -> None:
    places = [0, 1, 2, 1, 0, 1, 2, 1, 0]
    animal = read_animal(make_run(tmp_path / "run", places, [0] * len(places), []), arm="sab", session="4x")
    assert animal.visits.changed.tolist() == [True, False, True, False]
    assert animal.visits.lap.tolist() == [0, 0, 1, 1]


def planted(seed: int, session: str, factor: float, *, drift: float = 1.0) -> Animal:
    """An animal whose replays at the changed end are `factor` times as many while the reward is changed."""
    rng = np.random.default_rng([seed, len(session)])
    ends = []
    for epoch in range(3):
        for changed in (True, False):
            rate = 40 * (factor if changed and epoch == 1 else 1.0) * (drift if changed and epoch else 1.0)
            counts = {"replay": int(rng.poisson(10 * rate)), "reminding": int(rng.poisson(400))}
            ends.append(End(epoch=epoch, changed=changed, laps=10, steps=20, credit=rate, td_error=1.0, **counts))
    empty = np.zeros(0)
    visits = Visits(epoch=empty, lap=empty, changed=empty.astype(bool), replay=empty, credit=empty)
    return Animal(arm="sab", session=session, seed=seed, sessions=3, ends=tuple(ends), visits=visits)


def test_a_planted_effect_is_found_and_none_is_not() -> None:
    animals = [planted(seed, "4x", 2.0) for seed in range(8)] + [planted(seed, "equal", 1.0) for seed in range(8)]
    found = {(f.session, f.what): f for f in findings(animals) if f.per == "lap"}
    effect, none, other = found["4x", "replay"], found["equal", "replay"], found["4x", "reminding"]
    assert effect.interval is not None
    assert effect.interval.estimate == pytest.approx(np.log(2), abs=0.05)
    assert effect.test is not None
    assert effect.test.p == pytest.approx(2 / 2**8)
    assert effect.q is not None
    assert none.test is not None
    assert other.test is not None
    assert effect.q < 0.05 < min(none.test.p, other.test.p)
    assert found["4x", "credit"].values[0] == pytest.approx(np.log(2))
    interaction = found["4x", "interaction"].values
    assert interaction[3] == pytest.approx(effect.values[3] - other.values[3])


def test_a_steady_drift_is_no_effect() -> None:
    """The mean of before and after is taken off, and equal sessions take off what is left."""
    animals = [planted(seed, kind, 1.0, drift=3.0) for seed in range(8) for kind in ("4x", "equal")]
    values = contrast(animals, "sab", "4x", "replay")
    assert set(values) == set(range(8))
    assert abs(float(np.mean(list(values.values())))) < 0.1


def test_a_contrast_is_an_effect_above_that_of_equal_sessions() -> None:
    animals = [planted(seed, kind, factor) for seed in range(8) for kind, factor in (("4x", 2.0), ("equal", 1.0))]
    values = contrast(animals, "sab", "4x", "replay")
    assert np.mean(list(values.values())) == pytest.approx(np.log(2), abs=0.05)


def test_twice_the_time_at_an_end_is_half_the_rate_per_stationary_step() -> None:
    animals = []
    for seed in range(4):
        animal = planted(seed, "4x", 1.0)
        ends = tuple(replace(end, steps=2 * end.steps) if end.changed and end.epoch == 1 else end for end in animal.ends)
        animals.append(replace(animal, ends=ends))
    found = {finding.per: finding.values for finding in findings(animals) if finding.what == "credit"}
    for seed in range(4):
        assert found["stationary step"][seed] == pytest.approx(found["lap"][seed] - np.log(2))


def test_published_effects_are_on_the_same_scale() -> None:
    assert published_effect("4x", "replay") == pytest.approx(np.log(1.56 / 0.64))
    assert published_effect("0x", "reminding") == pytest.approx(np.log(0.17 / 1.13))


def test_another_run_is_refused(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", [0, 1, 2], [0, 0, 0], [])
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"env": "sabsim/TMaze-v0"}))
    with pytest.raises(RunFolderError, match="is no run of an agent on sabsim/LinearTrack-v0"):
        read_animal(path, arm="sab", session="4x")
    (path / "config.json").write_text(json.dumps(config | {"env_args": {}}))
    with pytest.raises(RunFolderError, match="changed_end is 'random'; it must be 0 or 1"):
        read_animal(path, arm="sab", session="4x")
    (path / "config.json").write_text(json.dumps(config))
    with sqlite3.connect(path / "run.sqlite") as connection:
        connection.execute("DELETE FROM steps WHERE step = 1")
    with pytest.raises(RunFolderError, match="single steps of some episodes are missing; train it with --record-every 1"):
        read_animal(path, arm="sab", session="4x")


def test_the_plan() -> None:
    runs = {run.name: run for run in plan(2, Path("out"))}
    assert len(runs) == 2 * (1 + sum(len(arm.sessions) for arm in ARMS.values()))
    one = runs["1/threshold-0x"]
    assert one.after == "1/training"
    assert one.config.run.begin_from == str(Path("out/1/training"))
    assert one.config.env_args == {"session": "0x", "changed_end": 1}
    assert runs["0/threshold-0x"].config.env_args == {"session": "0x", "changed_end": 0}
    assert (one.config.learner.replay_threshold, one.config.run.streams, one.config.learner.window) == (1.0, 1, 1)
    assert runs["0/untrained-4x"].after is None
    assert runs["0/untrained-4x"].config.run.begin_from is None
    assert runs["0/sab-4x"].config.learner == replace(runs["0/threshold-4x"].config.learner, replay_threshold=0.0)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few arms and steps, one after the other in this process."""
    sizes = replace(QUICK, training=200, sessions=300, untrained=300)
    monkeypatch.setattr(ambrose, "QUICK", sizes)
    monkeypatch.setattr(ambrose, "ARMS", {name: ARMS[name] for name in ("threshold", "untrained")})

    def one_by_one(runs: list[Planned], work: Any, **_: Any) -> Swept:
        return Swept({run.name: work(run.config, out=run.out, resume=True, display=Display()) for run in runs}, {})

    monkeypatch.setattr("sabsim.runs.sweep.sweep", one_by_one)


@pytest.mark.usefixtures("in_process")
def test_the_command_ends_with_figure_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "ambrose", "--quick", "--seeds", "1", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "threshold 4x replay" in shown
    names = {path.name for path in (tmp_path / "analysis").iterdir()}
    assert names == {"stats.json", "ends.csv", "effects.csv", "ambrose.svg", "ambrose.png"}
    stats = json.loads((tmp_path / "analysis" / "stats.json").read_text())
    assert stats["about"]["seeds"] == [0, 0]
    assert {item["arm"] for item in stats["behaviour"]} == {"threshold", "untrained"}
    # Asked again, it trains nothing and finds the same.
    before = (tmp_path / "analysis" / "effects.csv").read_text()
    assert main(["experiment", "ambrose", "--quick", "--seeds", "1", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "analysis" / "effects.csv").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("experiment", "which experiment? such as ambrose; see 'sabsim experiment --help'"),
        ("experiment ambros", "experiment = 'ambros': must be one of ambrose (did you mean ambrose?)"),
        ("experiment ambrose --seeds 0", "seeds = 0: must be at least 1"),
        ("experiment ambrose --jobs 0", "jobs = 0: must be at least 1"),
    ],
)
def test_a_mistake_is_one_line(arguments: str, words: str, mistake: Callable[..., str]) -> None:
    assert words in mistake(*arguments.split())


def test_the_figure_takes_few_and_many(tmp_path: Path) -> None:
    for count in (1, 5):
        animals = [planted(seed, "4x", 2.0) for seed in range(count)]
        figure = ambrose_figure(animals, findings(animals), title="few")
        figure.savefig(tmp_path / "few.png")
        assert len(figure.axes) == 4


def test_sizes_are_those_of_the_page() -> None:
    """docs/ambrose.md tells these."""
    assert Sizes() == Sizes(training=500_000, sessions=4_000, untrained=25_000)
    assert experiment.EXPERIMENTS.keys() == {"ambrose"}
    assert work.__module__ == "sabsim.agents.ambrose"
