"""`sabsim export` to NWB: columns that are made of several others, of a run whose every row is written out here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sabsim.agents import AGENT_TABLES, AgentConfig
from sabsim.analysis.export import export_nwb

from sabsim.runs import RunDatabase, RunFolder

# What these packages warn of among themselves is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Row = tuple[Any, ...]
DT = 0.5
REWARDS = {2: (1.0, 0), 9: (-2.0, None), 11: (3.0, 1)}
"""Of the paid steps: the reward, and the step of its episode that earned it, where that is told."""


def step(at: int) -> Row:
    """A row of `steps`; episodes have four steps."""
    reward, causal = REWARDS.get(at, (0.0, None))
    return (at, 0, at // 4, at % 4, 1, reward, 0.5, 0.0, 0.7, None, None, None, causal)


def episode(number: int) -> Row:
    """A row of `episodes`."""
    return (0, number, 4 * number, 4 * number + 3, 1.0, 4, None, 1, 0)


def replay(at: int, source: int, *, weight: float, credit: float, reward: float, td_error: float) -> Row:
    """A row of `events`."""
    return ("replay", at, 0, at // 4, source, at - source, weight, credit, None, reward, td_error, 3, at)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes 0 to 2, of which 0 and 2 are recorded, and three triggers; the first has two sources."""
    folder = tmp_path_factory.mktemp("made")
    (run := folder / "run").mkdir()
    RunFolder(run).write_config(AgentConfig(env="sabsim/Exam-v0"))
    database = RunDatabase(run / "run.sqlite", AGENT_TABLES)
    database.insert("steps", [step(at) for at in (0, 1, 2, 3, 8, 9, 10, 11)])
    database.insert("episodes", [episode(number) for number in range(3)])
    database.insert(
        "events",
        [
            replay(3, 0, weight=0.75, credit=0.1, reward=0.0, td_error=0.25),
            replay(3, 1, weight=0.125, credit=0.4, reward=0.0, td_error=0.25),
            replay(9, 8, weight=0.5, credit=0.3, reward=-2.0, td_error=-1.5),
            replay(11, 8, weight=1.0, credit=0.2, reward=3.0, td_error=2.0),
        ],
    )
    database.commit()
    database.close()
    return export_nwb(run, folder / "run.nwb", dt=DT).path


@pytest.fixture
def found(exported: Path) -> Any:
    """The file as pynapple sees it."""
    nap = pytest.importorskip("pynapple")
    return nap.load_file(str(exported))


def test_a_reward_has_the_time_of_the_step_that_earned_it(exported: Path) -> None:
    """The environment counts steps from the beginning of its episode, the file from that of the run."""
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(exported, "r") as opened:
        table = opened.read().events["rewards"]
        assert table["timestamp"].data[:].tolist() == [2 * DT, 9 * DT, 11 * DT]
        np.testing.assert_array_equal(table["causal_time"].data[:], [0 * DT, np.nan, (8 + 1) * DT])


def test_a_trigger_tells_of_its_source_with_the_most_credit(found: Any) -> None:
    table = found["replay"]
    assert table.start.tolist() == [3 * DT, 9 * DT, 11 * DT]
    assert table["source_weight"].tolist() == [0.125, 0.5, 1.0]
    assert table["td_error"].tolist() == [0.25, -1.5, 2.0]
    assert [bool(paid) for paid in table["is_rewarded"]] == [False, True, True]
    assert found["replay_reward"].d[:].tolist() == [0.0, 0.0, -2.0, 3.0]


def test_a_trial_tells_whether_its_steps_are_recorded(found: Any) -> None:
    assert [bool(recorded) for recorded in found["trials"]["is_recorded"]] == [True, False, True]
