"""Action credit held to an oracle that keeps everything: what is sent, to which actions, and every gradient of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from sabsim.agents import AgentConfig, AgentLearnerOptions, build_agent
from sabsim.agents.action_credit import ActionCredit, Transport
from torch import Tensor

from sabsim import SAB, SGD, ConfigError, Network, Novelty, StreamingLearner

B, D, N, ACTIONS, K, GAMMA = 3, 4, 6, 3, 4, 0.8
SHARE, THRESHOLD, SEGMENTS = 0.9, 0.02, 3
STEPS = 23
"""Not a multiple of the window: the episode that is watched ends within one."""


def make_learner(backend: str) -> StreamingLearner:
    return StreamingLearner(
        Network(d_in=D, d_out=ACTIONS + 2, hidden=N, input_scale=1.0),
        credit=SAB(k_top=3, k_trunc=K, replays=2, explore=0.0),
        retention=Novelty(slots=7),
        optimizer=SGD(lr=0.0),
        streams=B,
        seed=3,
        dtype=torch.float64,
        backend=backend,
    )


@dataclass
class Diary:
    """Everything that happened, step by step; the oracle's unbounded memory."""

    x: list[Tensor] = field(default_factory=list)
    h: list[Tensor] = field(default_factory=list)
    c: list[Tensor] = field(default_factory=list)
    s: list[Tensor] = field(default_factory=list)
    action: list[np.ndarray] = field(default_factory=list)
    reward: list[np.ndarray] = field(default_factory=list)
    reads: list[list[dict[int, float]]] = field(default_factory=list)

    def note(self, learner: StreamingLearner, x: Tensor, action: np.ndarray, reward: np.ndarray) -> None:
        rings, at, read = learner.window.rings, learner._position - 1, learner.read
        assert read is not None
        self.x.append(x)
        self.h.append(rings["readout"][at, :, :N].clone())
        self.c.append(rings["c"][at + 1].clone())
        self.s.append(rings["s"][at].clone())
        self.action.append(action)
        self.reward.append(reward)
        pairs = zip(read.source_step.tolist(), read.weight.tolist(), strict=True)
        self.reads.append([{b: w for b, w in zip(births, weights, strict=True) if b >= 0} for births, weights in pairs])


def play(learner: StreamingLearner, credit: ActionCredit, steps: int) -> Diary:
    """One episode in every stream, without a learning signal, with the gradient left as it is after the last update."""
    rng, diary = np.random.default_rng(1), Diary()
    learner.reset(torch.ones(B, dtype=torch.bool))
    for _ in range(steps):
        x = torch.from_numpy(rng.normal(size=(B, D)))
        learner.step(x)
        action, reward = rng.integers(0, ACTIONS, B), rng.normal(size=B)
        credit.acted(action)
        credit.paid(reward)
        diary.note(learner, x, action, reward)
        if learner.block_is_full:
            learner.learn_block(torch.zeros(K, B, ACTIONS + 2, dtype=torch.float64))
    return diary


def finish(learner: StreamingLearner, over: list[bool]) -> dict[str, Tensor]:
    """The streams ``over`` end; the gradient of the next update, whose own signal is zero."""
    rng = np.random.default_rng(2)
    learner.reset(torch.tensor(over))
    while not learner.block_is_full:
        learner.step(torch.from_numpy(rng.normal(size=(B, D))))
    learner.learn_block(torch.zeros(K, B, ACTIONS + 2, dtype=torch.float64))
    return {name: grad.clone() for name, grad in learner.grads.items()}


def oracle(learner: StreamingLearner, diary: Diary, over: list[bool]) -> dict[str, Tensor]:
    """The same gradient by autograd, from the diary and the definition."""
    parameters = {name: value.clone().requires_grad_() for name, value in learner.parameters.items()}
    held = learner.macrostate.birth.tolist()
    sent = []
    for stream in range(B):
        strongest: dict[int, tuple[float, float]] = {}
        for step, reads in enumerate(diary.reads):
            gain = sum(GAMMA**ahead * r[stream] for ahead, r in enumerate(diary.reward[step:]))
            for birth, weight in reads[stream].items():
                far = step - birth > 1 / (1 - GAMMA)
                if far and weight > THRESHOLD and weight > strongest.get(birth, (0.0, 0.0))[0]:
                    strongest[birth] = weight, gain
        kept = sorted(((w, g, b) for b, (w, g) in strongest.items() if b in held[stream]), reverse=True)
        sent += [(stream, b, SHARE * w * g) for w, g, b in kept[:SEGMENTS] if over[stream]]
    assert len(sent) >= 3
    outputs, actions, targets = [], [], []
    for stream, birth, target in sent:
        first = max(0, birth - K + 1)
        h = diary.h[first - 1][stream] if first else torch.zeros(N, dtype=torch.float64)
        c = diary.c[first - 1][stream] if first else torch.zeros(N, dtype=torch.float64)
        for step in range(first, birth + 1):
            gates = parameters["cell.W_x"] @ diary.x[step][stream] + parameters["cell.W_h"] @ h + parameters["cell.b"]
            o, i, f = gates[: 3 * N].sigmoid().split(N)
            c = f * c + i * gates[3 * N :].tanh()
            s = diary.s[step][stream]
            h = o * c.tanh() + s
            outputs.append(parameters["readout.W_h"] @ h + parameters["readout.W_s"] @ s + parameters["readout.b"])
            actions.append(int(diary.action[step][stream]))
            targets.append(target)
    y, target = torch.stack(outputs), torch.tensor(targets, dtype=torch.float64)
    surprise = target - y[:, -1]
    advantage = (surprise / surprise.square().mean().sqrt()).detach()
    log_policy = torch.log_softmax(y[:, :ACTIONS], 1)[torch.arange(len(y)), torch.tensor(actions)]
    (0.5 * surprise.square() - advantage * log_policy).sum().div(B * K).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in parameters.items()}


def make_credit(learner: StreamingLearner, **changed: Any) -> ActionCredit:
    how = replace(Transport(share=SHARE, threshold=THRESHOLD, segments=SEGMENTS), **changed)
    return ActionCredit(learner, how, actions=ACTIONS, gamma=GAMMA, steps=K)


@pytest.mark.parametrize("steps", [STEPS, 24])
@pytest.mark.parametrize("over", [[True, True, True], [True, False, True]])
@pytest.mark.parametrize("backend", ["torch", "native"])
def test_the_gradient_is_that_of_the_definition(backend: str, over: list[bool], steps: int) -> None:
    learner = make_learner(backend)
    credit = make_credit(learner)
    diary = play(learner, credit, steps)
    expected = oracle(learner, diary, over)
    credit.ended(np.array(over))
    found = finish(learner, over)
    scale = max(float(grad.abs().max()) for grad in expected.values())
    assert scale > 1e-3
    for name, grad in expected.items():
        assert float((found[name] - grad).abs().max()) < 1e-9 * scale, name


def test_the_oracle_sees_an_action_put_off_by_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner("torch")
    credit = make_credit(learner)
    diary = play(learner, credit, STEPS)
    over = [True] * B
    expected = oracle(learner, diary, over)
    credit._done = np.roll(credit._done, 1, axis=2)
    credit.ended(np.array(over))
    found = finish(learner, over)
    assert max(float((found[name] - grad).abs().max()) for name, grad in expected.items()) > 1e-4


def test_an_episode_sends_once_and_nothing_passes_to_the_next() -> None:
    learner = make_learner("torch")
    credit = make_credit(learner)
    play(learner, credit, STEPS)
    over = np.ones(B, dtype=bool)
    credit.ended(over)
    assert any(float(grad.abs().max()) > 0 for grad in finish(learner, [True] * B).values())
    credit.ended(over)
    assert all(float(grad.abs().max()) == 0 for grad in finish(learner, [True] * B).values())


def test_its_weight_is_that_of_the_policy_and_not_of_the_baseline() -> None:
    found = []
    for weight in (1.0, 2.0):
        learner = make_learner("torch")
        credit = make_credit(learner, weight=weight)
        play(learner, credit, STEPS)
        credit.ended(np.ones(B, dtype=bool))
        found.append(finish(learner, [True] * B)["readout.b"])
    single, double = found
    assert (single[:ACTIONS] != 0).all()
    assert torch.allclose(double[:ACTIONS], 2 * single[:ACTIONS])
    assert single[-1] != 0
    assert torch.allclose(double[ACTIONS:], single[ACTIONS:])


def test_another_seed_draws_other_random_sources() -> None:
    drawn = []
    for seed in (1, 1, 2):
        learner = make_learner("torch")
        credit = make_credit(learner, sources="random", seed=seed)
        play(learner, credit, STEPS)
        drawn.append(credit._draw(learner.clock, 3)[0].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_random_sources_are_far_and_held() -> None:
    learner = make_learner("torch")
    how = Transport(sources="random", threshold=0.0, segments=SEGMENTS)
    credit = ActionCredit(learner, how, actions=ACTIONS, gamma=GAMMA, steps=K)
    met = set()
    for seed in range(20):
        credit._random = np.random.default_rng(seed)
        slot, birth = credit._draw(12, 3)
        assert (birth == -1).all()
        play(learner, credit, STEPS)
        slot, birth = credit._draw(learner.clock, 3)
        held = np.take_along_axis(learner.macrostate.birth.numpy(), slot, 1)
        assert ((birth == held) | (birth == -1)).all()
        assert (learner.clock - birth[birth >= 0] > 1 / (1 - GAMMA)).all()
        met |= {tuple(row) for row in slot.tolist()}
        learner = make_learner("torch")
        credit = ActionCredit(learner, how, actions=ACTIONS, gamma=GAMMA, steps=K)
    assert len(met) > 10


def test_it_goes_on_from_a_saved_state() -> None:
    whole, parts = make_learner("torch"), make_learner("torch")
    one, two = make_credit(whole), make_credit(parts)
    play(whole, one, 20)
    play(parts, two, 20)
    learner = make_learner("torch")
    credit = make_credit(learner)
    learner.load_state_dict(parts.state_dict())
    credit.restore(two.state())
    for each in (one, credit):
        each.ended(np.ones(B, dtype=bool))
    finish(whole, [True] * B)
    mine = finish(learner, [True] * B)
    for name, grad in whole.grads.items():
        assert torch.equal(grad, mine[name])


@pytest.mark.parametrize(
    ("option", "value"), [("share", 0.0), ("threshold", 1.0), ("segments", 0), ("weight", -1.0), ("share", float("nan"))]
)
def test_values_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=option):
        Transport(**{option: value})


@pytest.mark.parametrize(
    ("options", "words"),
    [({"credit": "tbptt"}, "'tbptt' recalls nothing"), ({"feeds": "h_hat"}, "leave out --feeds h_hat")],
)
def test_learners_that_lack_what_it_needs_are_refused(options: dict[str, Any], words: str) -> None:
    learner = AgentLearnerOptions(action_credit="recall", hidden=8, slots=8, k_top=3, **options)
    with pytest.raises(ConfigError, match=words):
        build_agent(AgentConfig(env="sabsim/Exam-v0", learner=learner))
