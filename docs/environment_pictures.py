"""Draws the pictures of docs/environments.md: `python docs/environment_pictures.py [NAME ...]`, into docs/images/envs/."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import sabsim.envs  # noqa: F401 (registers)
from PIL import Image

# Arguments, seed, and after how many steps of the optimal policy the picture is taken.
PICTURES: dict[str, tuple[dict[str, Any], int, int]] = {
    "LinearTrack": ({}, 0, 204),
    "TMaze": ({"active": True, "memory_length": 12, "credit_length": 20}, 0, 1),
    "Exam": ({"delay": 30, "lead": 3}, 0, 14),
    "TraceConditioning": ({}, 0, 40),
    "KeyToDoor": ({}, 1, 12),
    "DelayedMatch": ({}, 1, 3),
    "Alternation": ({}, 1, 14),
    "MemoryChain": ({}, 1, 4),
    "DiscountingChain": ({}, 1, 5),
    "UmbrellaChain": ({}, 1, 5),
}


def main(names: list[str]) -> None:
    """One PNG for each name, or for all."""
    folder = Path(__file__).parent / "images" / "envs"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        arguments, seed, steps = PICTURES[name]
        env = gym.make(f"sabsim/{name}-v0", render_mode="rgb_array", **arguments)
        env.reset(seed=seed)
        for _ in range(steps):
            env.step(env.unwrapped.optimal_action())  # type: ignore[attr-defined]
        picture = Image.fromarray(env.render())  # type: ignore[arg-type]
        picture.quantize(64, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
