"""The experiment of Ambrose, Pfeiffer & Foster (2016) with your own question: here, how the threshold decides the effect.

Animals learn to shuttle once; their sessions are then run with several replay thresholds. Ten minutes on one core:

    python examples/ambrose2016.py --seeds 3 --out runs/thresholds

`sabsim experiment ambrose` is the whole experiment, with all controls; what it finds is told in docs/ambrose.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from sabsim.agents import train_agent
from sabsim.agents.ambrose import ARMS, Sizes, session, training
from sabsim.analysis.ends import read_animal
from sabsim.analysis.statistics import mean_interval

THRESHOLDS = (0.0, 0.1, 0.3, 1.0)


def main() -> None:
    """Trains, runs the sessions, and prints a line for each threshold and kind of session."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="animals (default 3)")
    parser.add_argument("--steps", type=int, default=4_000, help="steps of each animal's sessions (default 4,000)")
    parser.add_argument("--training", type=int, default=500_000, help="steps of training before (default 500,000)")
    parser.add_argument("--out", type=Path, default=Path("runs/thresholds"), help="where the runs are kept")
    options = parser.parse_args()
    sizes = Sizes(training=options.training, sessions=options.steps)
    animals = []
    for seed in range(options.seeds):
        home = options.out / str(seed)
        train_agent(training(seed, sizes), out=home / "training", resume=True)
        for threshold in THRESHOLDS:
            arm = replace(ARMS["threshold"], learner={"replay_threshold": threshold})
            for kind in ("4x", "0x"):
                folder = home / f"{threshold}-{kind}"
                train_agent(session(seed, kind, arm, sizes, home / "training"), out=folder, resume=True)
                animals.append(read_animal(folder, arm=str(threshold), session=kind))
    print("threshold  session  ln change of the replay rate at the changed end (mean, 95 % interval)")
    for threshold in THRESHOLDS:
        for kind in ("4x", "0x"):
            mine = [animal for animal in animals if (animal.arm, animal.session) == (str(threshold), kind)]
            found = [effect for animal in mine if (effect := animal.effect("replay")) is not None]
            if not found:
                print(f"{threshold:9g}  {kind:7}  nothing to compare: an epoch without laps, or no replay at all")
                continue
            interval = mean_interval(found)
            limits = "" if interval.low is None else f"  {interval.low:+.2f} .. {interval.high:+.2f}"
            print(f"{threshold:9g}  {kind:7}  {interval.estimate:+.2f}{limits}  ({len(found)} of {len(mine)} animals)")


if __name__ == "__main__":
    main()
