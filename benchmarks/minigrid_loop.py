"""Steps per second of a whole online agent in MiniGrid: environment, encoder, learner, updates.

    python benchmarks/minigrid_loop.py --out results/minigrid-loop.json

MiniGrid-DoorKey-5x5-v0, an actor-critic of 128 units with one update every 10 steps, in one process with one thread, with
one environment and with 16 side by side: the streaming learner in each backend, a naive agent in eager torch with the same
encoder (no memory, no replay), and the environments alone with random actions. All are played by turns, round by round, so
that a busy machine disturbs them alike. A step is one step of one environment. Rates are given by the wall clock and by
CPU time; the latter is what a core of one's own gives.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import minigrid
import numpy as np
import torch
from minigrid_agents import ACTIONS, HIDDEN, TASK, WIDTH, WINDOW, NaiveAgent, RandomPlay, StreamingAgent

from sabsim.runs.machine import cpu_model, git_revision

WARM_UP = 10
"""Windows before anything is measured."""
ALONE = "environment alone"


class Player(Protocol):
    """What is timed."""

    def window(self) -> None:
        """``WINDOW`` steps of every environment."""


def players(streams: int, seed: int) -> dict[str, Player]:
    """By name, each with environments of its own."""
    return {
        ALONE: RandomPlay(streams, seed),
        "naive, eager torch": NaiveAgent(streams, seed),
        "sabsim, torch": StreamingAgent("torch", streams, seed),
        "sabsim, native": StreamingAgent("native", streams, seed),
    }


def play(all_players: dict[str, Player], streams: int, rounds: int, steps: int) -> dict[str, dict[str, list[float]]]:
    """Environment steps per second, by the wall clock and by CPU time, of every round of about ``steps`` steps."""
    windows = max(1, steps // (WINDOW * streams))
    rates: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in all_players}
    for player in all_players.values():
        for _ in range(WARM_UP):
            player.window()
    for number in range(rounds):
        names = list(all_players) if number % 2 == 0 else list(reversed(all_players))
        for name in names:
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(windows):
                all_players[name].window()
            done = windows * WINDOW * streams
            rates[name]["wall"].append(done / (time.perf_counter() - wall))
            rates[name]["cpu"].append(done / (time.process_time() - cpu))
    return rates


def spread(samples: list[float]) -> dict[str, int]:
    """Median and quartiles."""
    low, median, high = np.percentile(samples, (25, 50, 75)).round().astype(int).tolist()
    return {"median": median, "low": low, "high": high}


def summarise(rates: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Of each player the rates and, round by round, its part of the rate of the environments alone."""
    result = {}
    for name, clocks in rates.items():
        part = [mine / alone for mine, alone in zip(clocks["cpu"], rates[ALONE]["cpu"], strict=True)]
        result[name] = {
            "steps_per_second_cpu_time": spread(clocks["cpu"]),
            "steps_per_second_wall_clock": spread(clocks["wall"]),
            "part_of_the_environment_alone": round(float(np.median(part)), 3),
        }
    return result


def learn(steps: int, streams: int, seed: int) -> list[dict[str, float]]:
    """Whether the agent that was timed learns: mean score of the last 200 episodes, ten times in ``steps`` steps."""
    agent = StreamingAgent("native", streams, seed)
    found, piece = [], max(1, steps // (10 * WINDOW * streams))
    for number in range(1, 11):
        for _ in range(piece):
            agent.window()
        scores = agent.environments.scores = agent.environments.scores[-200:]
        score = round(float(np.mean(scores)), 3) if scores else 0.0
        found.append({"steps": number * piece * WINDOW * streams, "score": score})
        print(found[-1], flush=True)
    agent.learner.check()
    return found


def made_by() -> dict[str, str]:
    """Machine, versions, revision and date."""
    return {
        "machine": f"{cpu_model()}, {platform.system()}, one thread",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
        "minigrid": minigrid.__version__,
        "git": git_revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(result: dict[str, Any], out: Path | None) -> None:
    """All that is known so far, unless ``out`` is None."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    """Play, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="samples of each player (default 15)")
    parser.add_argument("--steps", type=int, default=1600, help="environment steps of a sample (default 1,600)")
    parser.add_argument("--learn", type=int, default=0, metavar="STEPS", help="also train for so many steps (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of environments, parameters and choices (default 0)")
    parser.add_argument("--out", type=Path, default=None, help="JSON file for the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "task": TASK,
        "configuration": f"actor-critic, LSTM n {HIDDEN}, window {WINDOW}, symbol encoder of {WIDTH}, preset stable, "
        f"k_top 5, k_trunc {WINDOW}, replays 5, novelty, 32 slots, Adam 1e-3, {ACTIONS} actions",
        "rounds": options.rounds,
        "steps_per_sample": options.steps,
        "seed": options.seed,
        **made_by(),
        "environments": {},
    }
    for streams in (1, 16):
        rates = play(players(streams, options.seed), streams, options.rounds, options.steps)
        result["environments"][str(streams)] = summarise(rates)
        print(json.dumps(result["environments"][str(streams)], indent=2), flush=True)
        write(result, options.out)
    if options.learn:
        result["learning"] = {"environments": 16, "curve": learn(options.learn, 16, options.seed)}
        write(result, options.out)


if __name__ == "__main__":
    main()
