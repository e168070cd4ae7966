"""Scores of replay beside independent implementations: nelpy, TDLM-Python and pynapple, which the tests do not install.

    pip install tdlm-python nelpy pynapple dill scikit-learn hmmlearn pandas matplotlib
    python benchmarks/score_oracles.py --out results/replay/scores.json

nelpy 0.2.1 asks for a module that matplotlib no longer has; its successor is put in its place. Each figure is the greatest
difference over random input.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import mpl_toolkits.axes_grid1 as grid
import mpl_toolkits.axes_grid1.inset_locator as locator
import numpy as np
from sabsim.analysis.agent_runs import AgentRun
from sabsim.analysis.folders import Run
from sabsim.analysis.peri_reward import peri_reward
from sabsim.analysis.scores import line_fit, sequenceness

POSITIONS, TIMES, EVENTS = 12, 8, 50


def nelpy_line_score(rng: np.random.Generator) -> float:
    """nelpy's trajectory score of the lines at the slope found: the best of them is the replay score."""
    sys.modules.setdefault("mpl_toolkits.axes_grid", grid)
    sys.modules.setdefault("mpl_toolkits.axes_grid.inset_locator", locator)
    from nelpy.analysis.replay import trajectory_score_array

    matrix = rng.random((EVENTS, POSITIONS, TIMES))
    matrix /= matrix.sum(axis=1, keepdims=True)
    worst = 0.0
    for p, score, slope in zip(matrix, *line_fit(matrix), strict=True):
        inside = [a for a in range(POSITIONS) if -1e-9 <= a + slope * (TIMES - 1) <= POSITIONS - 1 + 1e-9]
        # Its band wraps around the ends, ours is cut off there: bands are kept inside by rows of zeros.
        padded = np.pad(p, ((2, 2), (0, 0)))
        best = max(trajectory_score_array(padded, slope=slope, intercept=a + 2, w=1) for a in inside)
        worst = max(worst, abs(best / TIMES - score))
    return worst


def tdlm_sequenceness(rng: np.random.Generator) -> float:
    """TDLM-Python's forward and backward sequenceness."""
    from tdlm.core import compute_1step

    worst = 0.0
    for _ in range(20):
        series, transitions = rng.random((80, 6)), np.eye(6, k=1)
        theirs = np.array([part[0, 1:] for part in compute_1step(series, transitions, n_shuf=1, max_lag=8)])
        worst = max(worst, float(np.abs(theirs - np.array(sequenceness(series, transitions, max_lag=8))).max()))
    return worst


def pynapple_perievent(rng: np.random.Generator) -> float:
    """pynapple's peri-event counts of triggers around paid steps, in one long episode."""
    import pynapple

    paid, count = rng.random(500) < 0.1, rng.poisson(0.5, 500)
    step, zeros = np.arange(500), np.zeros(500, int)
    steps = {"step": step, "stream": zeros, "episode": zeros, "position": step, "reward": paid * 1.0, "replays": count}
    steps["place"] = np.full(500, np.nan)
    config = {"env": "made-up", "env_args": {}, "learner": {"window": 5, "credit": "sab"}, "run": {"seed": 0}}
    run = AgentRun(Run(Path("made-up"), config, {}), steps, {"step": np.repeat(step, count)}, {}, {"length": zeros[:1]}, 0)
    ours = peri_reward(run)
    triggers = pynapple.Ts(np.repeat(step, count).astype(float))
    around = pynapple.compute_perievent(triggers, pynapple.Ts(step[paid].astype(float)), (-20.5, 20.5))
    theirs = np.histogram(np.concatenate([around[key].t for key in around]), np.arange(-20.5, 21))[0]
    return float(np.abs(theirs - np.round(ours.rate * ours.steps)).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/replay/scores.json"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {
        f"line_fit beside nelpy {version('nelpy')}": nelpy_line_score(np.random.default_rng(0)),
        f"sequenceness beside TDLM-Python {version('tdlm-python')}": tdlm_sequenceness(np.random.default_rng(1)),
        f"peri_reward beside pynapple {version('pynapple')} (counts)": pynapple_perievent(np.random.default_rng(2)),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    told = {"greatest_difference": found, "numpy": np.__version__, "scipy": version("scipy")}
    options.out.write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
