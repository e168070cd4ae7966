"""DiscountingChain: when each chain pays and how much, and the returns that its docstring states."""

from __future__ import annotations

import numpy as np
import pytest
from sabsim.envs.discounting_chain import LENGTH, PAY_STEPS, DiscountingChain


def episode(env: DiscountingChain, first: int, later: int = 0) -> tuple[list[float], list[dict[str, object]]]:
    """Rewards and infos of an episode that picks ``first`` and goes on with the action ``later``."""
    env.reset(seed=0)
    rewards, infos, terminated = [], [], False
    while not terminated:
        observation, reward, terminated, truncated, info = env.step(later if infos else first)
        assert not truncated
        rewards.append(reward)
        infos.append(info)
        np.testing.assert_allclose(observation, [first, len(infos) / LENGTH], rtol=1e-6)
    return rewards, infos


@pytest.mark.parametrize("seed", range(7))
@pytest.mark.parametrize("chain", range(5))
def test_each_chain_pays_once_at_its_step(chain: int, seed: int) -> None:
    rewards, infos = episode(DiscountingChain(mapping_seed=seed), chain, later=(chain + 1) % 5)
    assert len(rewards) == LENGTH
    assert np.flatnonzero(rewards).tolist() == [PAY_STEPS[chain] - 1]
    assert sum(rewards) == (1.1 if chain == seed % 5 else 1.0)
    assert [i for i, info in enumerate(infos) if info["causal_step"] == 0] == [PAY_STEPS[chain] - 1]
    assert infos[-1]["phase"] == "end"


def test_before_the_choice_no_chain_is_shown() -> None:
    env = DiscountingChain()
    observation, info = env.reset(seed=0)
    assert observation.tolist() == [-1, 0]
    assert (info["phase"], info["chain"], info["reward_step"]) == ("choice", -1, -1)


def test_returns_of_the_policies() -> None:
    """The random policy's mean is over its first action only, so five episodes are exact."""
    env = DiscountingChain()
    returns = [sum(episode(env, chain)[0]) for chain in range(5)]
    assert np.mean(returns) == pytest.approx(1.02)
    assert max(returns) == sum(episode(env, env.optimal_action())[0]) == 1.1


@pytest.mark.parametrize(("argument", "value"), [("mapping_seed", -1), ("mapping_seed", None), ("render_mode", "human")])
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{argument} is {value!r}"):
        DiscountingChain(**{argument: value})  # type: ignore[arg-type]
