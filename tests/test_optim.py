"""The optimisers against torch's own, the clip and the schedules against their formulas."""

from collections.abc import Callable
from math import cos, inf, nan, pi

import pytest
import torch
from torch import Tensor, nn

from sabsim import OPTIMIZERS, SGD, Adam, ConfigError, ObGD, Optimizer, RMSprop

SIZE, STEPS = 7, 50
PLAIN = {"clip": 0.0, "spike": 0.0, "schedule": "constant", "warmup_updates": 0}
ADAM = {"lr": 0.03, "beta_1": 0.8, "beta_2": 0.97, "eps": 1e-6}
PAIRS: dict[str, tuple[Optimizer, Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "adam": (
        Adam(**PLAIN),
        lambda p: torch.optim.Adam(p, lr=1.6e-2, betas=(0.9, 0.999), eps=5e-6, amsgrad=True),
    ),
    "adam, without the ceiling": (
        Adam(amsgrad=False, **PLAIN),
        lambda p: torch.optim.Adam(p, lr=1.6e-2, betas=(0.9, 0.999), eps=5e-6),
    ),
    "adam, all set": (
        Adam(**PLAIN, **ADAM),
        lambda p: torch.optim.Adam(p, lr=0.03, betas=(0.8, 0.97), eps=1e-6, amsgrad=True),
    ),
    "rmsprop": (
        RMSprop(lr=0.02, decay=0.9, eps=1e-5, clip=0.0),
        lambda p: torch.optim.RMSprop(p, lr=0.02, alpha=0.9, eps=1e-5),
    ),
    "sgd": (SGD(lr=0.1, clip=0.0), lambda p: torch.optim.SGD(p, lr=0.1)),
    "sgd, momentum": (SGD(lr=0.1, momentum=0.9, clip=0.0), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
}
EVERY = [Adam(lr=0.1, warmup_updates=0), RMSprop(lr=0.1), SGD(lr=0.1), SGD(lr=0.1, momentum=0.9)]


def gradients(steps: int = STEPS) -> Tensor:
    """Gradients of very different sizes, and one of nothing."""
    generator = torch.Generator().manual_seed(1)
    grads = torch.randn(steps, SIZE, generator=generator, dtype=torch.float64)
    grads *= 10 ** torch.randint(-4, 3, (steps, 1), generator=generator).double()
    grads[steps // 2] = 0
    return grads


def start() -> Tensor:
    return torch.linspace(-1, 1, SIZE, dtype=torch.float64)


def follow(rule: Optimizer, grads: Tensor) -> Tensor:
    """The parameters after every update, `(steps, size)`."""
    flat, path = start(), []
    state = rule.state(flat)
    for grad in grads:
        assert rule.update(flat, grad, state)
        path.append(flat.clone())
    assert int(state["updates"]) == len(grads)
    return torch.stack(path)


@pytest.mark.parametrize("name", PAIRS)
def test_it_is_torch_s(name: str) -> None:
    mine, theirs = PAIRS[name]
    parameter, path = nn.Parameter(start()), []
    optimizer = theirs([parameter])
    for grad in gradients():
        parameter.grad = grad.clone()
        optimizer.step()
        path.append(parameter.detach().clone())
    torch.testing.assert_close(follow(mine, gradients()), torch.stack(path), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("clip", [0.1, 1.0, 30.0])
def test_the_clip_is_torch_s(clip: float) -> None:
    parameter, clipped = nn.Parameter(start()), []
    for grad in gradients():
        parameter.grad = grad.clone()
        nn.utils.clip_grad_norm_([parameter], clip)
        clipped.append(parameter.grad.clone())
    moved = torch.diff(follow(SGD(lr=1.0, clip=clip), gradients()), dim=0, prepend=start().unsqueeze(0))
    # torch adds 1e-6 to the norm it divides by
    torch.testing.assert_close(-moved, torch.stack(clipped), rtol=2e-5, atol=1e-12)
    norms = gradients().norm(dim=1)
    assert (norms > clip).any()
    assert (norms < clip).any()
    torch.testing.assert_close(moved.norm(dim=1), norms.clamp(max=clip), rtol=1e-9, atol=1e-12)


def test_no_clip() -> None:
    flat, rule = start(), SGD(lr=1.0, clip=0.0)
    rule.update(flat, torch.full_like(flat, 1e6), rule.state(flat))
    torch.testing.assert_close(flat, start() - 1e6)


def test_the_norm_is_that_before_the_clip() -> None:
    flat, rule = start(), SGD(lr=0.0, clip=0.5)
    state = rule.state(flat)
    rule.update(flat, torch.full_like(flat, 2.0), state)
    assert float(state["norm"]) == pytest.approx(2 * SIZE**0.5)


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("constant", lambda done: 1.0),
        ("linear", lambda done: 1 - done),
        ("cosine", lambda done: (1 + cos(pi * done)) / 2),
    ],
)
def test_the_step_size_follows_its_schedule(schedule: str, share: Callable[[float], float]) -> None:
    """Update number u, from 1, is made with lr times the schedule's share after u of the `decay_updates`."""
    decay, lr = 8, 0.5
    rule = SGD(lr=lr, clip=0.0, schedule=schedule, decay_updates=decay)
    path = follow(rule, torch.ones(decay + 4, SIZE, dtype=torch.float64))
    rates = -torch.diff(path, dim=0, prepend=start().unsqueeze(0))
    expected = torch.tensor([lr * share(min(u / decay, 1)) for u in range(1, decay + 5)], dtype=torch.float64)
    # the share is computed in single precision
    torch.testing.assert_close(rates, expected.unsqueeze(1).expand_as(rates), rtol=1e-6, atol=1e-12)
    assert (rates.diff(dim=0) <= 1e-15).all()


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_restart_begins_the_schedule_again(schedule: str) -> None:
    """The update that would have step size 0 has the full one instead; after the last cycle it stays at 0."""
    decay, gradient = 8, torch.ones(30, SIZE, dtype=torch.float64)
    options = {"lr": 0.5, "clip": 0.0, "schedule": schedule, "decay_updates": decay}
    once, twice = (
        -torch.diff(follow(SGD(**options, restarts=n), gradient), dim=0, prepend=start().unsqueeze(0))[:, 0] for n in (0, 2)
    )
    cycle = torch.cat((torch.tensor([0.5], dtype=torch.float64), once[: decay - 1]))
    expected = torch.cat((once[: decay - 1], cycle, cycle, torch.zeros(30 - 3 * decay + 1, dtype=torch.float64)))
    torch.testing.assert_close(twice, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "inverse", "rsqrt", "linear", "cosine"])
def test_the_step_size_warms_up_to_its_schedule(schedule: str) -> None:
    """Update number u is made with the share u / `warmup_updates` of the step size it has without, at most all of it."""
    warmup, gradient = 5, torch.ones(12, SIZE, dtype=torch.float64)
    options = {"lr": 0.5, "clip": 0.0, "schedule": schedule, "decay_updates": 20}
    cold, warm = (
        -torch.diff(follow(SGD(**options, warmup_updates=w), gradient), dim=0, prepend=start().unsqueeze(0))
        for w in (0, warmup)
    )
    share = torch.tensor([min(u / warmup, 1) for u in range(1, 13)], dtype=torch.float64)
    torch.testing.assert_close(warm / cold, share.unsqueeze(1).expand_as(warm), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize(("schedule", "power"), [("inverse", 1.0), ("rsqrt", 0.5)])
def test_an_endless_schedule_counts_signals(schedule: str, power: float) -> None:
    """Quiet updates use up almost nothing of the step size, loud ones no more than one each; and it has a floor."""
    rule = SGD(lr=0.5, clip=0.0, schedule=schedule, decay_updates=10, lr_floor=0.2)
    state, flat, rates = rule.state(start()), start(), []
    for size in [1.0] * 10 + [1e-6] * 200 + [1e6] + [1.0] * 3000:
        before = flat.clone()
        rule.update(flat, torch.full_like(flat, size), state)
        rates.append(float((before - flat)[0]) / size)
    assert rates[9] == pytest.approx(0.5 * 0.5**power, rel=1e-6)
    assert rates[209] == pytest.approx(rates[9], rel=1e-3)
    assert rates[210] == pytest.approx(0.5 * (10 / 21) ** power, rel=1e-2)
    assert rates[-1] == pytest.approx(0.5 * 0.2, rel=1e-6)


def test_an_update_counts_as_the_signals_told() -> None:
    rule = SGD(lr=0.5, clip=0.0, schedule="inverse", decay_updates=10)
    state, flat = rule.state(start()), start()
    for counts in [0.0] * 50 + [0.25] * 8 + [4.0]:
        rule.update(flat, torch.ones_like(flat), state, counts=torch.tensor(counts, dtype=torch.float64))
    assert float(state["signals"]) == pytest.approx(6.0, rel=1e-12)


def test_a_spike_is_shortened_to_the_usual_norm() -> None:
    rule = SGD(lr=1.0, clip=0.0, spike=2.0)
    state, flat, moved = rule.state(start()), start(), []
    for size in [1.0] * 50 + [1000.0] + [1.0] * 50:
        before = flat.clone()
        rule.update(flat, torch.full_like(flat, size), state)
        moved.append(float((before - flat)[0]))
    assert moved[50] == pytest.approx(2.0)
    assert moved[49] == pytest.approx(1.0)
    # The spike counted as three times the usual norm, so the yardstick hardly moved.
    assert float(state["mean_square_norm"]) / SIZE == pytest.approx(1.0, rel=0.01)


def test_the_yardstick_follows_a_lasting_change() -> None:
    """A limit of 1 must not hold down what it is measured by: gradients ten times as large become the usual ones."""
    rule = SGD(lr=0.0, clip=0.0, spike=1.0)
    state, flat = rule.state(start()), start()
    for size in [1.0] * 100 + [10.0] * 6000:
        rule.update(flat, torch.full_like(flat, size), state)
    assert float(state["mean_square_norm"] / SIZE) ** 0.5 == pytest.approx(10.0, rel=0.02)


def test_rare_gradients_are_not_shortened_to_the_quiet_between_them() -> None:
    """One loud gradient in a hundred cannot hold up the yardstick; its limit is 0.3 times what was usual before."""
    rule = SGD(lr=1.0, clip=0.0, spike=2.0)
    state, flat, moved = rule.state(start()), start(), []
    for size in [1.0] * 50 + ([1e-3] * 99 + [1.0]) * 100:
        before = flat.clone()
        rule.update(flat, torch.full_like(flat, size), state)
        moved.append(float((before - flat)[0]))
    assert float(state["mean_square_norm"] / SIZE) ** 0.5 < 0.01
    assert moved[-1] == pytest.approx(2.0 * 0.3, rel=1e-5)
    assert moved[-2] == pytest.approx(1e-3, rel=1e-5)


def test_the_average_is_a_mean_and_then_forgets() -> None:
    rule = SGD(lr=0.1, clip=0.0, average=0.9)
    state, flat, path = rule.state(start()), start(), []
    for grad in gradients(60):
        rule.update(flat, grad, state)
        path.append(flat.clone())
        if len(path) == 10:
            torch.testing.assert_close(state["average"], torch.stack(path).mean(0), rtol=1e-6, atol=1e-6)
    expected = torch.stack(path[:10]).mean(0)
    for row in path[10:]:
        expected = 0.9 * expected + 0.1 * row
    torch.testing.assert_close(state["average"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", EVERY, ids=str)
def test_an_update_that_is_not_due_changes_nothing(rule: Optimizer) -> None:
    """Bit for bit: the parameters, the moments and the count; the next one goes on as if it had never been."""
    grads, waits = gradients(12), [False, True, False, False, True, True, False, True, True, True, False, True]
    flat = start()
    state = rule.state(flat)
    for grad, wait in zip(grads, waits, strict=True):
        before = [flat.clone(), *(v.clone() for v in state.values())]
        assert rule.update(flat, grad, state, torch.tensor(not wait))
        same = [torch.equal(a, b) for a, b in zip(before, [flat, *state.values()], strict=True)]
        assert all(same) if wait else not same[0] or not grad.any()
    due = torch.stack([grad for grad, wait in zip(grads, waits, strict=True) if not wait])
    assert torch.equal(flat, follow(rule, due)[-1])


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("proceed", [None, True, False])
@pytest.mark.parametrize("rule", EVERY, ids=str)
def test_a_gradient_that_is_not_finite_changes_no_parameter(rule: Optimizer, proceed: bool | None, value: float) -> None:
    flat = start()
    state = rule.state(flat)
    for grad in gradients(3):
        rule.update(flat, grad, state)
    before, bad = flat.clone(), gradients(1)[0]
    bad[2] = value
    assert not rule.update(flat, bad, state, None if proceed is None else torch.tensor(proceed))
    assert torch.equal(flat, before)
    assert int(state["updates"]) == 3
    assert all(torch.isfinite(v).all() for v in state.values())
    rule.update(flat, torch.ones_like(flat), state)
    assert torch.isfinite(flat).all()
    assert not torch.equal(flat, before)


@pytest.mark.parametrize("rule", EVERY, ids=str)
def test_single_precision_stays_single(rule: Optimizer) -> None:
    flat = start().float()
    state = rule.state(flat)
    for grad in gradients(20).float():
        rule.update(flat, grad, state)
    assert flat.dtype == torch.float32
    torch.testing.assert_close(flat.double(), follow(rule, gradients(20))[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(lr=-0.1), "lr = -0.1"),
        (lambda: SGD(clip=-1.0), "clip = -1.0"),
        (lambda: SGD(schedule="step"), "schedule = 'step'"),
        (lambda: RMSprop(schedule="linear"), "decay_updates = 0"),
        (lambda: SGD(schedule="cosine", decay_updates=-3), "decay_updates = -3"),
        (lambda: SGD(spike=-1.0), "spike = -1.0"),
        (lambda: SGD(average=1.0), "average = 1.0"),
        (lambda: SGD(schedule="cosine", decay_updates=3, restarts=-1), "restarts = -1"),
        (lambda: SGD(restarts=1), "restarts = 1: schedule constant"),
        (lambda: SGD(lr_floor=-0.1), "lr_floor = -0.1"),
        (lambda: SGD(warmup_updates=-1), "warmup_updates = -1"),
        (lambda: ObGD(lr=0.0), "lr = 0.0"),
        (lambda: ObGD(kappa=-2.0), "kappa = -2.0"),
        (lambda: Adam(eps=0.0), "eps = 0.0"),
        (lambda: Adam(beta_1=1.0), "beta_1 = 1.0"),
        (lambda: Adam(beta_2=-0.5), "beta_2 = -0.5"),
    ],
)
def test_a_setting_out_of_range_is_named(make: Callable[[], Optimizer | ObGD], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("lr", "delta", "size"),
    [
        (0.01, 0.5, 0.01),  # within the bound
        (1.0, 0.5, 1 / (2 * 6)),  # the trace's sum of magnitudes is 6
        (1.0, -4.0, 1 / (2 * 4 * 6)),
        (1e9, 1e3, 1 / (2 * 1e3 * 6)),
    ],
)
def test_an_overshooting_bounded_step_by_hand(lr: float, delta: float, size: float) -> None:
    flat, trace = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    assert ObGD(lr=lr, kappa=2.0).update(flat, trace, delta)
    torch.testing.assert_close(flat, size * delta * trace)


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_an_overshooting_bounded_step_of_what_is_not_finite_changes_nothing(value: float) -> None:
    flat, trace = start(), torch.ones(SIZE, dtype=torch.float64)
    assert not ObGD().update(flat, trace, value)
    trace[1] = value
    assert not ObGD().update(flat, trace, 1.0)
    assert torch.equal(flat, start())
    assert ObGD().update(flat, torch.zeros_like(trace), 1.0)
    assert torch.equal(flat, start())


def test_every_optimiser_has_its_name() -> None:
    assert list(OPTIMIZERS.values()) == [Adam, RMSprop, SGD]
    assert all(rule.name == name for name, rule in OPTIMIZERS.items())
