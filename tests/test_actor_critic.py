"""The actor-critic's signal against autograd, its returns against the sums they stand for, and the encoder of symbols."""

import numpy as np
import pytest
import torch
from sabsim.agents.actor_critic import Returns, returns, signals
from sabsim.agents.encoders import MINIGRID_VIEW, SymbolEncoder
from torch import nn

STEPS, STREAMS, ACTIONS, GAMMA = 6, 3, 4, 0.9


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_signal_is_the_gradient_of_the_loss(rng: np.random.Generator) -> None:
    output = rng.normal(size=(STEPS, STREAMS, ACTIONS + 1))
    action = rng.integers(0, ACTIONS, (STEPS, STREAMS))
    found = Returns(*rng.normal(size=(3, STEPS, STREAMS)))
    y = torch.tensor(output, requires_grad=True)
    log_policy = torch.log_softmax(y[..., :-1], 2)
    surprise = -log_policy.gather(2, torch.tensor(action).unsqueeze(2)).squeeze(2)
    entropy = -(log_policy.exp() * log_policy).sum(2)
    loss = torch.tensor(found.advantage) * surprise + 0.5 * (y[..., -1] - torch.tensor(found.target)) ** 2
    (expected,) = torch.autograd.grad((loss - 0.01 * entropy).mean(), y)
    signal = signals(output, action, found, value_weight=0.5, entropy_weight=0.01)
    assert np.abs(signal - expected.numpy()).max() < 1e-12


def test_returns_to_the_end_of_the_window(rng: np.random.Generator) -> None:
    """With lambda 1 the target is the discounted sum of what was got, plus the last value unless the episode ended."""
    value, reward = rng.normal(size=(2, STEPS, STREAMS))
    last, ended = rng.normal(size=STREAMS), np.zeros((STEPS, STREAMS))
    ended[2, 1] = ended[5, 2] = 1
    expected = np.empty((STEPS, STREAMS))
    ahead = last
    for t in reversed(range(STEPS)):
        expected[t] = ahead = reward[t] + GAMMA * (1 - ended[t]) * ahead
    found = returns(value, reward, ended, last, gamma=GAMMA, decay=1.0)
    assert np.allclose(found.target, expected)
    assert np.allclose(found.advantage, expected - value)


def test_td_errors(rng: np.random.Generator) -> None:
    value, reward = rng.normal(size=(2, STEPS, STREAMS))
    last, ended = rng.normal(size=STREAMS), np.zeros((STEPS, STREAMS))
    ended[3] = 1
    following = np.vstack([value[1:], last[None]]) * (1 - ended)
    expected = reward + GAMMA * following - value
    for decay in (0.0, 0.9):
        found = returns(value, reward, ended, last, gamma=GAMMA, decay=decay)
        assert np.allclose(found.td_error, expected)
        assert decay or np.allclose(found.advantage, expected)


def test_symbols_are_one_hot() -> None:
    kinds = [3, 2, 4]
    encoder = SymbolEncoder(kinds, 5)
    seen = torch.tensor([[2, 0, 3], [0, 1, 1]], dtype=torch.uint8)
    one_hot = torch.cat([nn.functional.one_hot(seen[:, i].long(), k) for i, k in enumerate(kinds)], 1)
    expected = torch.relu(one_hot.float() @ encoder.W + encoder.b)
    assert torch.allclose(encoder(seen), expected, atol=1e-6)
    assert len(MINIGRID_VIEW) == 147
