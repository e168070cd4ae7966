"""`sabsim watch`: the episode that an evaluation plays, with replays, and a film of it that anything can read."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from sabsim.agents import (
    AgentConfig,
    AgentLearnerOptions,
    AgentParts,
    AgentRunOptions,
    Unmoved,
    Watched,
    build_agent,
    drawing_maker,
    evaluate,
    load_agent,
    loop,
    watch,
)
from sabsim.analysis.film import Film
from sabsim.analysis.gif import HOLD, duration_ms
from sabsim.analysis.style import BLUE, VERMILION

from sabsim import SAB, SGD, Network, Recent, StreamingLearner
from sabsim.cli import main
from sabsim.errors import ConfigError
from sabsim.replay import ReplayEvents
from sabsim.runs import RunFolder

SMALL = "--hidden 8 --slots 8 --k-top 3 --streams 4 --eval-every 2000 --eval-episodes 4 --quiet"
T_MAZE = ("sabsim/TMaze-v0", "--env-args", "memory_length=8", "--steps", "800", *SMALL.split())
DOOR_KEY = ("MiniGrid-DoorKey-5x5-v0", "--steps", "200", *SMALL.split())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the short runs `maze` and `door`."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "FINAL_EPISODES", 5)
        assert main(["agent", *T_MAZE, "--out", str(folder / "maze")]) == 0
        assert main(["agent", *DOOR_KEY, "--out", str(folder / "door")]) == 0
    return folder


@pytest.fixture(scope="module")
def maze(runs: Path) -> AgentParts:
    """The agent of `maze`."""
    return load_agent(RunFolder(runs / "maze"))[0]


@pytest.fixture(scope="module")
def seen(maze: AgentParts) -> Watched:
    """An episode of it: 9 steps, the last window of which is not whole."""
    return watch(maze.agent, drawing_maker(maze.config), seed=maze.config.evaluation_seed)


def opened(path: Path) -> tuple[list[Image.Image], list[int]]:
    """The frames of a GIF, and how long each stays."""
    with Image.open(path) as image:
        frames, durations = [], []
        for number in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(number)
            frames.append(image.convert("RGB"))
            durations.append(image.info["duration"])
    return frames, durations


def shows(frame: np.ndarray, colour: str) -> int:
    """Pixels of a colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((frame == wanted).all(-1).sum())


def test_it_is_the_episode_that_an_evaluation_plays(maze: AgentParts, seen: Watched) -> None:
    (played,) = evaluate(maze.agent, maze.config, maze.make, episodes=1, seed=seen.seed).episodes
    assert (seen.reward.sum(), len(seen.reward), seen.success) == (played.total, played.length, played.success)
    assert seen.over
    assert len(seen.frames) == len(seen.thumbnails) == 9
    assert seen.frames[0].shape == (190, 320, 3)


def test_parameters_stay_to_the_last_bit_although_credit_is_assigned(maze: AgentParts) -> None:
    trained = maze.agent.learner
    assert isinstance(trained, StreamingLearner)
    state = trained.state_dict()
    learner = Unmoved(trained, seed=0)
    before = {name: value.clone() for name, value in learner.learned.items()}
    assert all(value.equal(trained.learned[name]) for name, value in before.items())
    draw = torch.Generator().manual_seed(0)
    replays = 0
    for _ in range(4):
        for _ in range(learner.credit.block):
            learner.step(torch.randn(1, learner.network.d_in, generator=draw))
        events = learner.learn_block(torch.randn(learner.credit.block, 1, learner.network.d_out, generator=draw))
        assert events is not None
        replays += int(events.valid.sum())
        assert learner.grad.norm() > 0
    assert replays > 0
    assert all(value.equal(before[name]) for name, value in learner.learned.items())
    watch(maze.agent, drawing_maker(maze.config), seed=3)
    for name, value in trained.state_dict().items():
        assert value.equal(state[name]) if isinstance(value, torch.Tensor) else value == state[name], name


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_replays_and_their_credit_are_those_of_training(threshold: float) -> None:
    """Of four streams that see the same, each replays what the copy with one stream does, which gets the signal alone."""
    streams, draw = 4, torch.Generator().manual_seed(0)
    learner = StreamingLearner(
        Network(d_in=3, d_out=2, hidden=8),
        credit=SAB(k_top=2, k_trunc=5, explore=0.0, replay_threshold=threshold),
        retention=Recent(slots=8),
        optimizer=SGD(lr=0.0),
        familiar=False,
        streams=streams,
    )

    def blocks(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        sizes = torch.randn(count, generator=draw).exp()
        pairs = [(torch.randn(5, 1, 3, generator=draw), torch.randn(5, 1, 2, generator=draw)) for _ in range(count)]
        return [(x, size * signal) for (x, signal), size in zip(pairs, sizes, strict=True)]

    def played(one: StreamingLearner, x: torch.Tensor, signal: torch.Tensor) -> ReplayEvents:
        """A block that all streams see; a signal is a mean over them."""
        one.step_block(x.expand(-1, one.streams, -1).contiguous())
        events = one.learn_block((signal / one.streams).expand(-1, one.streams, -1).contiguous())
        assert events is not None
        return events

    for x, signal in blocks(30):
        played(learner, x, signal)
    everywhere = torch.ones(streams, dtype=torch.bool)
    learner.reset(everywhere)
    copy, count = Unmoved(learner, seed=0), 0
    copy.reset(everywhere[:1])
    for x, signal in blocks(12):
        theirs, mine = played(learner, x, signal), played(copy, x, signal)
        count += int(mine.valid.sum())
        assert mine.valid[0].equal(theirs.valid[2])
        assert torch.allclose(mine.credit[0], theirs.credit[2], rtol=1e-4)
    assert 0 < count < 12 * 2 * 5


def test_what_is_recalled_and_replayed_lies_in_the_episode(seen: Watched) -> None:
    assert seen.recalls
    assert seen.replays
    assert seen.recalled
    assert seen.replayed
    for read in seen.recalled:
        assert 0 <= read.source < read.step < 9
        assert 0.05 <= read.weight <= 1.0001
    for replay in seen.replayed:
        assert 0 <= replay.source < replay.step < 9
        assert replay.window == replay.step // seen.window
        assert replay.credit > 0
        assert 1 <= replay.length <= replay.source + 1


def test_frames_come_in_any_order_and_show_both_colours(seen: Watched) -> None:
    film = Film(seen, title="a maze", width=480)
    assert len(film) == 9
    last, first = film.frame(8), film.frame(0)
    assert last.shape == first.shape == (368, 480, 3)
    assert np.array_equal(film.frame(8), last)
    read, replayed = {event.step for event in seen.recalled}, {event.window for event in seen.replayed}
    for t in range(9):
        frame = film.frame(t)
        # The titles' letters are anti-aliased; a thumbnail's frame, about 200 pixels long, is not.
        assert (shows(frame, BLUE) > 300) == (t in read), t
        assert (shows(frame, VERMILION) > 300) == (t // seen.window in replayed), t


@pytest.mark.parametrize(("fps", "stays"), [(8, 120), (50, 20), (1, 1000), (12.5, 80)])
def test_a_gif_stays_for_hundredths_of_a_second(fps: float, stays: int) -> None:
    assert duration_ms(fps) == stays


def test_the_command_writes_a_gif_and_a_picture(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "maze.gif"
    options = ["--seed", "7", "--episodes", "2", "--fps", "10", "--width", "500", "--png", "--greedy"]
    assert main(["watch", str(runs / "maze"), "--out", str(out), *options]) == 0
    frames, durations = opened(out)
    assert [frame.size for frame in frames] == [(500, 383)] * 18
    assert durations == ([100] * 8 + [HOLD]) * 2
    with Image.open(out.with_suffix(".png")) as picture:
        last = np.asarray(picture).astype(int)
    # The palette has 255 colours, so that a pixel may differ, but not by much.
    assert np.abs(np.asarray(frames[-1]).astype(int) - last).mean() < 2
    assert sorted(path.name for path in out.parent.iterdir()) == ["maze.gif", "maze.png"]
    shown = capsys.readouterr().out
    assert shown.startswith("seed 7: ")
    assert "18 frames of 500 x 383" in shown
    assert out.stat().st_size < 18 * 15_000


def test_minigrid_and_a_long_episode_is_cut(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(runs / "door"), "--from-step", "3", "--most-frames", "9"]) == 0
    frames, durations = opened(runs / "door" / "watch.gif")
    assert [frame.size for frame in frames] == [(720, 552)] * 9
    assert durations == [120] * 8 + [HOLD]
    assert "cut after step 11" in capsys.readouterr().out


@pytest.mark.parametrize("credit", ["no-replay", "tbptt", "rtu"])
def test_rules_that_do_not_recall_or_replay_say_so(credit: str) -> None:
    config = AgentConfig(
        env="sabsim/TMaze-v0",
        env_args={"memory_length": 4},
        learner=AgentLearnerOptions(credit=credit, hidden=4),
        run=AgentRunOptions(streams=2),
    )
    parts = build_agent(config)
    seen = watch(parts.agent, drawing_maker(parts.config), seed=1)
    assert (seen.recalls, seen.replays) == (credit == "no-replay", False)
    assert seen.replayed == []
    film = Film(seen, title="a maze")
    assert shows(film.frame(4), VERMILION) < 1000
    assert len(film) == 5


def test_names_of_actions(runs: Path) -> None:
    parts, _ = load_agent(RunFolder(runs / "door"))
    seen = watch(parts.agent, drawing_maker(parts.config), seed=1, most=1)
    assert (seen.action_names[3], seen.frames[0].shape, seen.over) == ("pickup", (160, 160, 3), False)


def test_an_environment_that_cannot_draw() -> None:
    class WithoutPictures(gym.Env[int, int]):
        """One that has no render mode at all."""

        observation_space = action_space = gym.spaces.Discrete(2)

    gym.register("WithoutPictures-v0", WithoutPictures)
    try:
        with pytest.raises(ConfigError, match=r"'WithoutPictures-v0': cannot draw itself \(no render_mode 'rgb_array'\)"):
            drawing_maker(AgentConfig(env="WithoutPictures-v0"))
    finally:
        del gym.registry["WithoutPictures-v0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fps", "0"], "fps = 0: must be between 1 and 50 frames per second"),
        (["--fps", "nan"], "fps = nan: must be between 1 and 50 frames per second"),
        (["--fps", "fast"], "see 'sabsim watch --help'"),
        (["--width", "20"], "width = 20: must be between 480 and 1600 pixels"),
        (["--episodes", "0"], "episodes = 0: must be at least 1"),
        (["--most-frames", "0"], "most_frames = 0: must be at least 1"),
        (["--seed", "-1"], "seed = -1: must be at least 0"),
        (["--from-step", "9"], "has only 9 steps"),
        (["--out", "episode.mp4"], "out = 'episode.mp4': must end with .gif"),
        (["--out", f"{__file__}/here/x.gif"], "test_watch.py' is no folder"),
        (["--colour"], "unknown option --colour"),
    ],
)
def test_a_mistake_is_one_line(runs: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(runs / "maze"), *options]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1, shown.err
    assert message in shown.err
    assert not (runs / "maze" / "watch.gif").exists()


def test_folders_that_are_no_agents(tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.json").write_bytes((runs / "maze" / "config.json").read_bytes())
    supervised = tmp_path / "supervised"
    options = "--T 3 --budget 8 --streams 2 --hidden 4 --slots 8 --eval-sequences 2 --quiet"
    assert main(["run", "copying", *options.split(), "--out", str(supervised)]) == 0
    capsys.readouterr()
    for folder, message in (
        (tmp_path / "none", "no run folder"),
        (begun, "no checkpoint yet"),
        (supervised, "agent"),
    ):
        assert main(["watch", str(folder)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1, said
        assert message in said


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["watch", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option in ("RUN", "--out", "--seed", "--greedy", "--episodes", "--from-step", "--most-frames", "--fps", "--png"):
        assert option in shown, option
    assert "--width PIXELS Width of the picture, 480 to 1600. (default: 720)" in shown
    assert main(["--help"]) == 0
    assert "watch" in capsys.readouterr().out
