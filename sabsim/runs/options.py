"""Every option of a run: its name, default and meaning. The help text is made from these docstrings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

_Text = Annotated[str, arg(metavar="NAME")]


def _filled(words: str) -> Callable[[str], str]:
    """The hint of an option that is filled in later, by these words, unless a task's recipe has a value for it."""
    return lambda value: f"(default: {words if value == 'None' else value})"


@dataclass(frozen=True, kw_only=True)
class LearnerOptions:
    """How the learner computes, remembers and learns. The names allowed are those of `sabsim list`."""

    preset: _Text = "stable"
    """Named combination of salience, sparsifier, stored state and readout: stable, paper or released."""
    salience: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_filled("the preset's"))] = None
    """Score a of a microstate against the current state: cosine, dot, mlp, affine or tanh."""
    sparsify: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_filled("the preset's"))] = None
    """From scores a to recall weights a_tilde: softmax, relu, normalised or dense."""
    stores: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_filled("the preset's"))] = None
    """What a microstate m holds: h_hat (before recall) or h (after it)."""
    readout: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_filled("the preset's"))] = None
    """What is read out beside h: summary (s) or weights (a_tilde)."""
    feeds: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_filled("the preset's"))] = None
    """What the next step gets: h (after recall) or h_hat (before it: what is recalled is read out and goes no further)."""
    cell: _Text = "lstm"
    """Recurrent cell: lstm, gru or rnn."""
    hidden: Annotated[int, arg(metavar="N")] = 128
    """Units of the hidden state h (n)."""
    forget_bias: Annotated[float, arg(metavar="BIAS")] = 2.0
    """Biases of the gate that keeps the state are drawn from 0 .. this (lstm, gru)."""
    input_scale: Annotated[float, arg(metavar="SCALE")] = 0.1
    """Input weights W_x are drawn from -this .. this."""
    familiar: bool = True
    """Evaluations keep each unit's cell state c within the range it had in training (lstm, gru)."""
    dropout: Annotated[float, arg(metavar="SHARE")] = 0.0
    """Share of what the readout reads that is left out, at random in each block, while it learns.
    Not of credits full-attention and screened-attention."""
    recurrent_dropout: Annotated[float, arg(metavar="SHARE")] = 0.0
    """Share of the units of h that the next step does not see while it learns, at random, the same throughout a sequence.
    Of cells lstm and gru; not of credits full-attention and screened-attention."""
    credit: _Text = "sab"
    """How a learning signal becomes a gradient: sab, tbptt, bptt, none, full-attention or screened-attention."""
    k_top: Annotated[int, arg(metavar="K")] = 5
    """Microstates recalled per step (k_top; credit rule sab)."""
    k_trunc: Annotated[int, arg(metavar="STEPS")] = 5
    """Steps through which credit flows without a jump, and around a replayed microstate (k_trunc)."""
    k_att: Annotated[int, arg(metavar="STEPS")] = 1
    """Every k_att-th state is offered to the macrostate (k_att; credit rule sab)."""
    replays: Annotated[int | None, arg(metavar="R", help_behavior_hint=_filled("k_top"))] = None
    """Microstates replayed at most, per stream and update; 0 is recall without replay (credit rule sab)."""
    update_every: Annotated[int | None, arg(metavar="STEPS", help_behavior_hint=_filled("k_trunc"))] = None
    """Steps between parameter updates (u), at most k_trunc; of credit none any number, by default 1."""
    explore: Annotated[float, arg(metavar="TEMPERATURE")] = 10.0
    """Temperature at which half of the training sequences draw what they recall; 0: none do (credit rule sab)."""
    explore_fades: bool = True
    """Let fewer sequences explore the better recall does without; otherwise always half of them do (credit rule sab)."""
    negligible: Annotated[float, arg(metavar="SHARE")] = 0.02
    """Credits below this share of an update's greatest are not replayed (credit rule sab)."""
    replay_threshold: Annotated[float, arg(metavar="FACTOR")] = 0.0
    """Credits below this multiple of the usual greatest one are not replayed either; 0: all are (credit rule sab)."""
    replay_share: Annotated[float, arg(metavar="SHARE")] = 1.0
    """Of the replays of all streams at most this part, the greatest credits; less is faster on a GPU (credit rule sab)."""
    trigger: _Text = "clock"
    """What lets an update happen: clock (always when due) or replay (more credit replayed than usual)."""
    retention: _Text = "novelty"
    """Which microstates stay when slots are full: novelty, recent, reservoir, relevancy, surprise or all."""
    slots: Annotated[
        int | None,
        arg(metavar="S", help_behavior_hint=_filled("32; retention all: a sequence's microstates")),
    ] = None
    """Microstates remembered per stream (size of the macrostate M)."""
    protect: Annotated[int | None, arg(metavar="N", help_behavior_hint=_filled("2"))] = None
    """Newest microstates that retention novelty never drops."""
    input_effect: Annotated[float | None, arg(metavar="WEIGHT", help_behavior_hint=_filled("1"))] = None
    """Weight of what the input did to the state, beside how far the state moved (retention novelty)."""
    buffer: Annotated[int | None, arg(metavar="N", help_behavior_hint=_filled("half the slots"))] = None
    """Newest microstates in the short-term buffer (nu; retention relevancy, credit screened-attention)."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """How a gradient changes the parameters."""

    optimizer: _Text = "adam"
    """Rule over the flat parameter vector: adam, rmsprop or sgd."""
    lr: Annotated[float | None, arg(metavar="RATE", help_behavior_hint=_filled("adam 0.016, else 0.001"))] = None
    """Learning rate, per update."""
    clip: Annotated[float, arg(metavar="NORM")] = 1.0
    """Largest global L2 norm of a gradient; a longer one is shortened to it. 0 clips nothing."""
    spike: Annotated[float, arg(metavar="FACTOR")] = 1.0
    """Largest gradient norm, in multiples of the usual one; 0: no limit.
    The usual one is the running root mean square, at least 0.3 of its greatest."""
    average: Annotated[float, arg(metavar="DECAY")] = 0.995
    """Decay, per update, of the mean of the parameters that evaluations use; 0: they use the parameters of the moment."""
    weight_decay: Annotated[float, arg(metavar="RATE")] = 0.0
    """Decay of the salience's parameters, per unit of learning rate and update."""
    lr_schedule: _Text = "inverse"
    """How the learning rate falls: inverse, rsqrt, linear, cosine or constant (not at all).
    Inverse and rsqrt: as 1/(1 + z) and 1/sqrt(1 + z), z being the learning signals met over D.
    With explore_fades such a signal counts by what recall has found.
    Linear and cosine: to 0, in updates."""
    decay_updates: Annotated[
        int | None, arg(metavar="UPDATES", help_behavior_hint=_filled("inverse, rsqrt 3000, else those of the budget"))
    ] = None
    """D of inverse and rsqrt, in updates as strong as usual; updates until linear or cosine reaches 0."""
    restarts: Annotated[int, arg(metavar="N")] = 0
    """Times that linear or cosine, once at 0, begins again (warm restarts)."""
    lr_floor: Annotated[float, arg(metavar="SHARE")] = 0.02
    """Share of the learning rate below which inverse and rsqrt do not fall."""
    warmup_updates: Annotated[int | None, arg(metavar="UPDATES", help_behavior_hint=_filled("adam 1000, else 0"))] = None
    """Updates over which the learning rate rises to that of the schedule; 0: it begins there."""
    beta_1: Annotated[float | None, arg(metavar="BETA", help_behavior_hint=_filled("0.9"))] = None
    """Decay of the mean gradient, per update (adam)."""
    beta_2: Annotated[float | None, arg(metavar="BETA", help_behavior_hint=_filled("0.999"))] = None
    """Decay of the mean squared gradient, per update (adam)."""
    eps: Annotated[float | None, arg(metavar="EPS", help_behavior_hint=_filled("adam 5e-6, rmsprop 1e-8"))] = None
    """Added to the root of the mean squared gradient: much smaller gradients make no full step (adam, rmsprop)."""
    amsgrad: Annotated[bool | None, arg(help_behavior_hint=_filled("True"))] = None
    """Divide by the root of the greatest mean squared gradient so far, not of today's (adam)."""
    decay: Annotated[float | None, arg(metavar="DECAY", help_behavior_hint=_filled("0.99"))] = None
    """Decay of the mean squared gradient, per update (rmsprop)."""
    momentum: Annotated[float | None, arg(metavar="MU", help_behavior_hint=_filled("0"))] = None
    """Share of the last change that is repeated (sgd)."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How long, on what, and what is recorded. A sequence count is over all streams together."""

    seed: Annotated[int, arg(metavar="N")] = 0
    """Seed of parameters, training sequences and retention; held-out sequences use their own."""
    streams: Annotated[int, arg(metavar="B")] = 8
    """Sequences met side by side (B)."""
    stagger: bool = True
    """Put the streams out of phase, each by its own number of steps, evaluations as well.
    Never where whole sequences are learned (credits bptt, full-attention, screened-attention), nor in a text."""
    gap: Annotated[int | None, arg(metavar="STEPS", help_behavior_hint=_filled("out of phase 1, or as needed; else 0"))] = (
        None
    )
    """Idle steps after each sequence of a stream.
    By default as few as let its sequences begin at every place of a block of updates, one after the other:
    what is learned at one place need not hold at another."""
    budget: Annotated[int, arg(metavar="SEQUENCES")] = 200_000
    """Training sequences, all streams together; the run ends with the block of steps in which it is met."""
    stop_at: Annotated[float | None, arg(metavar="METRIC", help_behavior_hint=_filled("never"))] = None
    """Stop before the budget when the held-out metric is this good (accuracy 0..1, mse, or bits per character)."""
    eval_every: Annotated[int, arg(metavar="SEQUENCES")] = 2_000
    """Training sequences between evaluations on held-out sequences."""
    eval_sequences: Annotated[int, arg(metavar="SEQUENCES")] = 256
    """Held-out sequences in an evaluation; the final one takes at least 1,000, and of data the whole part."""
    checkpoint_every: Annotated[int, arg(metavar="SEQUENCES")] = 5_000
    """Training sequences between checkpoints."""
    record_streams: Annotated[int, arg(metavar="N")] = 1
    """Streams whose events, steps and sequences are recorded: the first N."""
    record_every: Annotated[int, arg(metavar="N")] = 20
    """Of a recorded stream, record the single steps and remindings of one sequence in N."""
    record_hidden: bool = False
    """Also record the hidden state h of each recorded single step: 4 bytes a unit and step (for 'sabsim export')."""
    device: _Text = "auto"
    """Where to compute: cpu, cuda, or auto (cuda if there is one)."""
    dtype: _Text = "float32"
    """Number format: float32 or float64."""
    backend: _Text = "auto"
    """What computes: torch, native (compiled C, several times faster, for the default pieces on the CPU), or auto."""
    tf32: bool = False
    """On a CUDA device let matrix products round float32 to 10 bits of mantissa: faster for large n."""
    threads: Annotated[int, arg(metavar="N")] = 1
    """CPU threads. More pay from some hundreds of hidden units on; below that torch is slower with them."""
