"""`sabsim watch RUN`: a GIF of an agent's episodes, with what it recalls and where credit goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

from rich.progress import Progress
from tyro.conf import Positional, arg

from sabsim.agents import AgentConfig, AgentParts, Watched, drawing_maker, load_agent, watch
from sabsim.cli.console import plain_console
from sabsim.cli.parse import parse
from sabsim.errors import ConfigError
from sabsim.runs import RunFolder
from sabsim.runs.progress import number

_SAMPLES = 8
"""Frames whose colours make the palette."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """Which episodes, and how they are shown."""

    run: Positional[Annotated[str, arg(metavar="RUN")]]
    """Run folder of an agent; its last checkpoint plays."""
    out: Annotated[str | None, arg(metavar="FILE.gif", help_behavior_hint="(default: watch.gif in the run folder)")] = None
    """Where the GIF is written; a file that is there is replaced."""
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the first of an evaluation)")] = None
    """Seed of the first episode's environment and actions, such as 'sabsim evaluate' tells of the worst ones."""
    greedy: bool = False
    """Take the likeliest action instead of drawing one from the policy."""
    episodes: Annotated[int, arg(metavar="EPISODES")] = 1
    """Episodes one after the other, with seeds from the first one on."""
    from_step: Annotated[int, arg(metavar="STEP")] = 0
    """Step of the first frame in each episode; those before are played without being shown."""
    most_frames: Annotated[int, arg(metavar="FRAMES")] = 400
    """Frames of each episode at most, one per step; a longer episode is cut there."""
    fps: Annotated[float, arg(metavar="RATE")] = 8.0
    """Frames per second, 1 to 50; the last frame of an episode stays for 2 s."""
    width: Annotated[int, arg(metavar="PIXELS")] = 720
    """Width of the picture, 480 to 1600."""
    png: bool = False
    """Also write the last frame, beside the GIF."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status.

    Raises:
        SabsimError: whatever is wrong with options, folder, environment, disk or numbers, in one line
    """
    options = parse(
        WatchOptions,
        arguments,
        prog="sabsim watch",
        description=(
            "Write a GIF of what an agent's run has learned: the environment, the moments recalled at each step, those to "
            "which credit would go after each window, and all of it in time. Nothing is learned meanwhile."
        ),
    )
    # Here and not above: what draws takes its time to load, and help or a mistake need none of it.
    from sabsim.analysis.film import Film
    from sabsim.analysis.gif import write_gif, write_png

    path = _path(options)
    folder = RunFolder(Path(options.run))
    parts, checkpoint = load_agent(folder)
    console = plain_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        episodes = _play(parts, options, progress)
        config, trained = parts.config, checkpoint.numbers["env_steps"]
        title = f"{_environment(config)}, {config.learner.credit}, {trained:,} steps trained"
        films = [
            Film(episode, title=title, subtitle=_subtitle(place, episode, options), width=options.width)
            for place, episode in enumerate(episodes, 1)
        ]
        shots = [(film, place) for film in films for place in range(len(film))]
        samples = [film.frame(place) for film, place in shots[:: -(-len(shots) // _SAMPLES)]]
        ends = list(accumulate(map(len, films)))
        bar = progress.add_task("drawing", total=len(shots))

        def drawn() -> Iterator[Any]:
            for film, place in shots:
                yield film.frame(place)
                progress.advance(bar)

        began = time.perf_counter()
        write_gif(path, drawn(), samples=samples, fps=options.fps, held=[end - 1 for end in ends])
        seconds = time.perf_counter() - began
    if options.png:
        write_png(path.with_suffix(".png"), films[-1].frame(len(films[-1]) - 1))
    for episode in episodes:
        console.print(_line(episode), soft_wrap=True)
    height, width = samples[0].shape[:2]
    png = f" (and {path.with_suffix('.png').name}, the last of them)" if options.png else ""
    console.print(
        f"{path}{png}: {len(shots)} frames of {width} x {height}, {path.stat().st_size / 1e6:.2f} MB, drawn and written at "
        f"{len(shots) / seconds:.0f} frames/s",
        soft_wrap=True,
    )
    return 0


def _path(options: WatchOptions) -> Path:
    """Where the GIF goes. Whatever is wrong with the numbers is found before any work begins."""
    from sabsim.analysis.film import check_width
    from sabsim.analysis.gif import duration_ms

    for name, least in (("episodes", 1), ("from_step", 0), ("most_frames", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ConfigError(f"{name} = {value}: must be at least {least}")
    duration_ms(options.fps)
    check_width(options.width)
    path = Path(options.run) / "watch.gif" if options.out is None else Path(options.out)
    if path.suffix.lower() != ".gif":
        raise ConfigError(f"out = '{path}': must end with .gif")
    if path.is_dir():
        raise ConfigError(f"out = '{path}': is a folder; give a file")
    if above := next((folder for folder in path.parents if folder.exists() and not folder.is_dir()), None):
        raise ConfigError(f"out = '{path}': '{above}' is no folder")
    return path


def _play(parts: AgentParts, options: WatchOptions, progress: Progress) -> list[Watched]:
    make = drawing_maker(parts.config)
    seed = parts.config.evaluation_seed if options.seed is None else options.seed
    bar = progress.add_task("playing", total=None)
    return [
        watch(
            parts.agent,
            make,
            seed=seed + number,
            greedy=options.greedy,
            first=options.from_step,
            most=options.most_frames,
            side=options.width // 3,
            after_step=lambda _: progress.advance(bar),
        )
        for number in range(options.episodes)
    ]


def _environment(config: AgentConfig) -> str:
    given = ", ".join(f"{name} {value}" for name, value in config.env_args.items())
    return f"{config.env} ({given})" if given else config.env


def _subtitle(place: int, episode: Watched, options: WatchOptions) -> str:
    which = f"episode {place} of {options.episodes}, " if options.episodes > 1 else ""
    return f"{which}seed {episode.seed}, {'likeliest actions' if options.greedy else 'actions drawn from the policy'}"


def _line(episode: Watched) -> str:
    """What became of an episode."""
    steps = len(episode.reward)
    outcome = {True: "success", False: "failure", None: "ended"}[episode.success]
    if not episode.over:
        outcome = f"cut after step {steps - 1}, it went on (--most-frames, --from-step)"
    return f"seed {episode.seed}: {outcome}, return {number(float(episode.reward.sum()))} in {steps} steps"
