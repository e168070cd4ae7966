"""What recording costs an agent's run: environment steps per second of the bare loop and of runs, by turns.

python benchmarks/agent_recording.py --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace

import torch
from sabsim.agents import AgentConfig, AgentRunOptions, build_agent, train_agent

CONFIG = AgentConfig(
    env="sabsim/MemoryChain-v0",
    env_args={"memory_length": 100},
    run=AgentRunOptions(steps=160_000, eval_every=10**9, eval_episodes=1, checkpoint_every=10**9),
)
VARIANTS = {
    "nothing recorded": (0, 1),
    "1 stream, 1 episode in 20 (default)": (1, 20),
    "1 stream, every episode": (1, 1),
    "32 streams, 1 episode in 20": (32, 20),
    "32 streams, every episode": (32, 1),
}
"""Recorded streams, and one episode in how many."""


def bare() -> float:
    """Steps per second of the agent's windows and nothing else."""
    parts = build_agent(CONFIG)
    window = CONFIG.learner.window * CONFIG.run.streams
    begun = time.perf_counter()
    for _ in range(CONFIG.run.steps // window):
        parts.agent.window()
    return CONFIG.run.steps / (time.perf_counter() - begun)


def run(streams: int, every: int) -> float:
    """Steps per second of training in a run folder."""
    config = replace(CONFIG, run=replace(CONFIG.run, record_streams=streams, record_every=every))
    with tempfile.TemporaryDirectory() as folder:
        return float(train_agent(config, out=folder)["steps_per_second"])


def main() -> None:
    """Medians over rounds, in each of which every variant has its turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {"bare loop": [], **{name: [] for name in VARIANTS}}
    for _ in range(rounds):
        found["bare loop"].append(bare())
        for name, (streams, every) in VARIANTS.items():
            found[name].append(run(streams, every))
    fastest = statistics.median(found["bare loop"])
    for name, rates in found.items():
        rate = statistics.median(rates)
        print(f"{name:<38}{rate:>10,.0f} steps/s  {100 * (1 - rate / fastest):5.1f} % less")


if __name__ == "__main__":
    main()
