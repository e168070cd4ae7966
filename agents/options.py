"""Every option of an agent's run: its name, default and meaning. The help text is made from these docstrings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from sabsim.runs.options import OptimizerOptions

from .agent import ActorCritic

_Text = Annotated[str, arg(metavar="NAME")]
_PRESETS = "(default: the preset's)"


@dataclass(frozen=True, kw_only=True)
class AgentLearnerOptions:
    """How the agent's learner sees, computes, remembers and assigns credit."""

    credit: _Text = "sab"
    """How a learning signal becomes a gradient; 'sabsim agent --help' lists the names."""
    window: Annotated[int, arg(metavar="STEPS")] = 5
    """Steps between two updates; returns look as far ahead as the window's end."""
    k_trunc: Annotated[int | None, arg(metavar="STEPS", help_behavior_hint="(default: the window)")] = None
    """Steps through which credit flows without a jump, and around a replayed microstate (k_trunc), at least the window."""
    longest: Annotated[int | None, arg(metavar="STEPS", help_behavior_hint="(no default)")] = None
    """Steps of the longest episode, all of which credit bptt goes back."""
    action_credit: _Text = "none"
    """Send the return of a recalling moment to the actions around what it recalls: none, recall or random.
    Random is a control: it draws from what is held and far enough away."""
    sent_share: Annotated[float, arg(metavar="SHARE")] = 0.9
    """Share of that return, times the recall weight, that is sent (action credit)."""
    sent_threshold: Annotated[float, arg(metavar="WEIGHT")] = 0.05
    """Recall weights at or below this send nothing (action credit)."""
    sent_segments: Annotated[int, arg(metavar="N")] = 8
    """Microstates of an episode to whose actions something is sent, at most (action credit)."""
    sent_weight: Annotated[float, arg(metavar="WEIGHT")] = 1.0
    """Weight of that policy gradient beside the ordinary one (action credit)."""
    sees_action: bool = True
    """Show the learner its last action, beside the observation."""
    sees_reward: bool = True
    """Show the learner its last reward, beside the observation."""
    kinds: bool = True
    """Show MiniGrid's cells by what they are, a place for each kind of thing, colour and state, not by their numbers."""
    encoder: _Text = "none"
    """Layers that are learned between observation and cell: cnn (convolutions over each picture that is shown) or none."""
    features: Annotated[int, arg(metavar="N")] = 64
    """Numbers that the encoder makes of a picture."""
    preset: _Text = "stable"
    """Named combination of salience, sparsifier, stored state and readout: stable, paper or released."""
    salience: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_PRESETS)] = None
    """Score a of a microstate against the current state: cosine, dot, mlp, affine or tanh."""
    sparsify: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_PRESETS)] = None
    """From scores a to recall weights a_tilde: softmax, relu, normalised or dense."""
    stores: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_PRESETS)] = None
    """What a microstate m holds: h_hat (before recall) or h (after it)."""
    readout: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_PRESETS)] = None
    """What is read out beside h: summary (s) or weights (a_tilde)."""
    feeds: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_PRESETS)] = None
    """What the next step gets: h (after recall) or h_hat (before it: what is recalled is read out and goes no further)."""
    cell: _Text = "lstm"
    """Recurrent cell: lstm, gru or rnn."""
    hidden: Annotated[int, arg(metavar="N")] = 64
    """Units of the hidden state h (n)."""
    forget_bias: Annotated[float, arg(metavar="BIAS")] = 5.0
    """Biases of the gate that keeps the state are drawn from 0 .. this (lstm, gru)."""
    input_scale: Annotated[float, arg(metavar="SCALE")] = 0.01
    """Input weights W_x are drawn from -this .. this."""
    k_top: Annotated[int, arg(metavar="K")] = 5
    """Microstates recalled per step (k_top)."""
    k_att: Annotated[int, arg(metavar="STEPS")] = 1
    """Every k_att-th state is offered to the macrostate (k_att)."""
    replays: Annotated[int, arg(metavar="R")] = 4
    """Microstates replayed at most, per stream and update (credit sab)."""
    explore: Annotated[float, arg(metavar="TEMPERATURE")] = 0.0
    """Temperature at which half of the episodes, later fewer if recall does without, draw what they recall; 0: none do."""
    negligible: Annotated[float, arg(metavar="SHARE")] = 0.02
    """Credits below this share of an update's greatest are not replayed."""
    replay_threshold: Annotated[float, arg(metavar="FACTOR")] = 0.0
    """Credits below this multiple of the usual greatest one are not replayed either; 0: all are."""
    retention: _Text = "novelty"
    """Which microstates stay when slots are full: novelty, recent, reservoir, relevancy, surprise or all."""
    slots: Annotated[int, arg(metavar="S")] = 16
    """Microstates remembered per stream (size of the macrostate M)."""
    protect: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 2)")] = None
    """Newest microstates that retention novelty never drops."""
    input_effect: Annotated[float | None, arg(metavar="WEIGHT", help_behavior_hint="(default: 1)")] = None
    """Weight of what the input did to the state, beside how far the state moved (retention novelty)."""
    buffer: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: half the slots)")] = None
    """Newest microstates in the short-term buffer of retention relevancy (nu)."""


@dataclass(frozen=True, kw_only=True)
class AgentOptimizerOptions(OptimizerOptions):
    """How a gradient changes the parameters."""

    optimizer: _Text = "adam"
    """Rule over the flat parameter vector: adam, rmsprop, sgd, or with --traces also obgd."""
    lr: Annotated[float | None, arg(metavar="RATE", help_behavior_hint="(default: adam 0.002, obgd 1, else 0.001)")] = None
    """Learning rate, per update."""
    kappa: Annotated[float | None, arg(metavar="FACTOR", help_behavior_hint="(default: 3)")] = None
    """Of the greatest step that does not overshoot, one part in so many is taken (obgd)."""
    spike: Annotated[float, arg(metavar="FACTOR")] = 0.0
    """Largest gradient norm, in multiples of the usual one; 0: no limit.
    The usual one is the running root mean square, at least 0.3 of its greatest."""
    average: Annotated[float, arg(metavar="DECAY")] = 0.0
    """Decay, per update, of the mean of the parameters that evaluations use; 0: they use the parameters of the moment."""
    lr_schedule: _Text = "constant"
    """How the learning rate falls: inverse, rsqrt, linear, cosine or constant (not at all).
    Inverse and rsqrt: as 1/(1 + z) and 1/sqrt(1 + z), z being the learning signals met over D.
    Linear and cosine: to 0, in updates."""
    warmup_updates: Annotated[int | None, arg(metavar="UPDATES")] = 0
    """Updates over which the learning rate rises to that of the schedule; 0: it begins there."""
    eps: Annotated[float | None, arg(metavar="EPS", help_behavior_hint="(default: 1e-8)")] = None
    """Added to the root of the mean squared gradient (adam, rmsprop)."""
    amsgrad: Annotated[bool | None, arg(help_behavior_hint="(default: True)")] = None
    """Divide by the root of the greatest mean squared gradient so far, not of today's (adam)."""


@dataclass(frozen=True, kw_only=True)
class SignalOptions(ActorCritic):
    """How rewards become a learning signal (actor-critic)."""

    gamma: Annotated[float, arg(metavar="SHARE")] = 0.99
    """Discount per step (gamma)."""
    # The optimiser has a --decay too.
    decay: Annotated[float, arg(name="lambda", metavar="SHARE")] = 0.95
    """Decay of the returns (lambda): 0 for one-step TD errors, 1 for returns to the window's end."""
    traces: bool = False
    """Update at every step along an eligibility trace, from that step's TD error alone; for --streams 1 --window 1."""
    entropy: Annotated[float, arg(name="entropy-weight", metavar="WEIGHT")] = 0.05
    """Weight of the policy's entropy."""
    value: Annotated[float, arg(name="value-weight", metavar="WEIGHT")] = 0.5
    """Weight of the value's squared error."""
    scale_advantage: bool = True
    """Divide advantages by the greatest that their running root mean square has been."""
    scale_reward: bool = False
    """Divide rewards by the running deviation of their discounted sums: where returns are far from 1, as in CartPole."""
    normalise: bool = True
    """Bring observations to mean 0 and standard deviation 1."""


@dataclass(frozen=True, kw_only=True)
class AgentRunOptions:
    """How long, on what, and what is recorded. Steps are those of all environments together."""

    seed: Annotated[int, arg(metavar="N")] = 0
    """Seed of environments, parameters, actions and retention; evaluations use their own."""
    begin_from: Annotated[str | None, arg(metavar="RUN", help_behavior_hint="(default: untrained)")] = None
    """Run folder of an agent that this one begins as: its parameters, optimiser and scales, but a fresh memory."""
    streams: Annotated[int, arg(metavar="B")] = 32
    """Environments played side by side (B)."""
    steps: Annotated[int, arg(metavar="STEPS")] = 500_000
    """Environment steps, all streams together; the run ends at the first update after them."""
    stop_at: Annotated[float | None, arg(metavar="MEASURE", help_behavior_hint="(default: never)")] = None
    """Stop before that when an evaluation's success (or return, where the environment tells no success) is this high."""
    eval_every: Annotated[int, arg(metavar="STEPS")] = 50_000
    """Environment steps between evaluations."""
    eval_episodes: Annotated[int, arg(metavar="EPISODES")] = 64
    """Episodes of an evaluation."""
    final_episodes: Annotated[
        int | None, arg(metavar="EPISODES", help_behavior_hint="(default: 200, or --eval-episodes if those are more)")
    ] = None
    """Episodes of the evaluation at the end."""
    checkpoint_every: Annotated[int, arg(metavar="STEPS")] = 100_000
    """Environment steps between checkpoints."""
    record_streams: Annotated[int, arg(metavar="N")] = 1
    """Streams whose events, steps and episodes are recorded: the first N."""
    record_every: Annotated[int, arg(metavar="N")] = 20
    """Of a recorded stream, record the single steps and remindings of one episode in N."""
    record_hidden: bool = False
    """Also record the hidden state h of each recorded single step: 4 bytes a unit and step (for 'sabsim export')."""
    device: _Text = "cpu"
    """Where the learner computes: cpu, cuda, or auto (cuda if there is one); the environments stay on the CPU.
    With few streams and units a CPU is faster."""
    backend: _Text = "auto"
    """What computes: torch, native (compiled C, several times faster, for the default pieces on the CPU), or auto."""
    threads: Annotated[int, arg(metavar="N")] = 1
    """CPU threads. More pay from some hundreds of hidden units on; below that torch is slower with them."""
