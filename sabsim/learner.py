"""The streaming learner: ``step`` forward, ``learn`` from a signal, ``reset`` at a new sequence. Nothing else.

One step's way: x -> cell -> salience -> sparsify -> summary -> readout -> y. At the end of a block: signal -> readout VJP
-> window VJP -> credits on microstates -> replay -> flat gradient -> optimiser. Then the finished block is offered to
the macrostate, where retention decides what stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .errors import ConfigError
from .offering import offer_block
from .parts import LearnerParts
from .replay import ReplayEvents, Segments
from .retention import All

TRIGGER_DECAY = 0.99
"""Decay per block of the running mean of replayed credit that the ``replay`` trigger compares with."""


class StreamingLearner(LearnerParts):
    """Learns online on ``streams`` endless sequences side by side, with bounded memory and no autograd.

    Args:
        network: the pieces of a step and their sizes.
        credit: the credit rule, e.g. ``SAB(k_top=5, k_trunc=5)``.
        retention: which microstates stay; its ``slots`` bound the macrostate. Unused by rules that do not recall.
        optimizer: e.g. ``Adam(lr=1e-3)``.
        streams: B.
        seed: of the initial parameters and of whatever retention draws.
        device: "cpu", "cuda", or "auto" (CUDA if there is one).
        dtype: torch.float32 or torch.float64.
        dropout: share of the readout's inputs left out while it learns (see Dropout).
        recurrent_dropout: share of h's units that the next step does not see while it learns, the same throughout a
            sequence (see RecurrentDropout; cell lstm or gru).
        encoder: a torch module before the cell, trained with the rest; ``step`` then takes its observations instead of x.
        familiar: while it does not learn, each unit's c stays in the range that it had in learning (see FamiliarRange).
        backend: what computes: "torch", "native" (compiled C; the combinations that it serves are in
            `sabsim.backend`), or "auto", native where it can.

    Raises ConfigError: for settings that do not fit each other, or a backend that cannot serve them.
    """

    @property
    def backend(self) -> str:
        """What computes: "torch" or "native"."""
        return self._backend.name

    # The three calls, and two that agents need beside them

    @torch.no_grad()
    def reset(self, done: Tensor) -> None:
        """The streams in ``done`` ``(streams,)`` bool begin a new sequence: zero state, empty macrostate."""
        self._advance_if_full()
        self.window.cut(self._position, done)
        if self._recurrent is not None:
            self._recurrent.begin(done)
        if self._exploration is not None:
            self._exploration.begin(done)
            if self._familiar is not None and self.learning:
                first = self._position == self.window.history
                self._familiar.begin(self._exploration.arrays["exploring"], first=first)
        if self._memory is not None:
            self._memory.clear(done)

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """One step forward: x ``(streams, d_in)`` -> y ``(streams, d_out)``, valid until the next step. O(slots).

        With an encoder x are observations, ``(streams, *shape)`` of the encoder's type.
        Raises ConfigError: for an input of another shape.
        """
        inputs = self._input(x)
        self._advance_if_full()
        if self._encoding is not None:
            self.window.observe(self._position, x)
        exploration = self._exploration if self.learning else None
        y = self.window.step(self._position, inputs, self._memory, exploration, masked=self.learning)
        self._position += 1
        self.clock += 1
        if self._familiar is not None and not self.learning:
            self._familiar.hold(self.window.rings["c"][self._position])
        if self.credit.forgets:
            self.window.forget(self._position)
        return y

    @torch.no_grad()
    def step_block(self, x: Tensor) -> Tensor:
        """The steps of a whole block, one after the other: x ``(block, streams, d_in)`` -> y ``(block, streams, d_out)``.

        For blocks within which no stream begins a sequence and signals are known only at the end (see ``learn_block``):
        what ``step`` would do, with less to do between steps. y is valid until the next call.
        Raises ConfigError: for an input of another shape, or within a block.
        """
        self._advance_if_full()
        if not self.block_is_empty:
            done = self._position - self.window.history
            raise ConfigError(f"step_block came after {done} of a block's {self.window.block} steps")
        if len(x) != self.window.block:
            raise ConfigError(f"x has {len(x)} steps: must be a block's {self.window.block}")
        held = self._familiar is not None and not self.learning
        if self._encoding is not None or held or self.credit.forgets:
            for t, x_t in enumerate(x):
                self.window.y_block[t].copy_(self.step(x_t))
            return self.window.y_block
        self._require_input(x[0])
        exploration = self._exploration if self.learning else None
        y = self.window.steps(x, self._memory, exploration, masked=self.learning)
        self._position = self.window.end
        self.clock += self.window.block
        return y

    @torch.no_grad()
    def peek(self, x: Tensor) -> Tensor:
        """What ``step(x)`` would return now, without exploration or dropout, ``(streams, d_out)``; it changes nothing.

        What the last step has passed on stays as recurrent dropout left it.
        It has today's parameters, and reads the macrostate as it is: at a block's end, before that block's update. Valid
        until the next call. Raises ConfigError: for an input of another shape.
        """
        return self.window.peek(self._position, self._input(x), self._memory)

    def _input(self, x: Tensor) -> Tensor:
        """x as the cell takes it, ``(streams, d_in)``. Raises ConfigError: for another shape."""
        if self._encoding is not None:
            return self._encoding.encode(x)
        self._require_input(x)
        return x

    def _require_input(self, x: Tensor) -> None:
        if x.shape != (self.streams, self.network.d_in):
            raise ConfigError(f"x has shape {tuple(x.shape)}: must be (streams, d_in) = {self.streams, self.network.d_in}")

    @torch.no_grad()
    def learn(self, dL_dy: Tensor, loss: Tensor | None = None) -> ReplayEvents | None:
        """Takes the learning signal of the last step; at a block's end, an update.

        Args: ``dL_dy`` (streams, d_out), the gradient of the total loss with respect to y; ``loss`` (streams,), its
        value or the TD error, for events and for retention by surprise (default: the norm of ``dL_dy``).
        Returns the replays of the update, or None where none was due or nothing can replay.
        Raises ConfigError: for a signal of another shape.
        """
        if dL_dy.shape != (self.streams, self.network.d_out):
            shape = tuple(dL_dy.shape)
            raise ConfigError(f"dL_dy has shape {shape}: must be (streams, d_out) = {self.streams, self.network.d_out}")
        self.window.take(self._position - 1, dL_dy, loss)
        return self._update_if_full()

    @torch.no_grad()
    def learn_block(self, dL_dy: Tensor, loss: Tensor | None = None) -> ReplayEvents | None:
        """Takes the learning signals of a whole block at its end, for those that are known only then, and updates.

        In place of ``learn`` at each of its steps. Args: ``dL_dy`` (block, streams, d_out), ``loss`` (block, streams), as
        for ``learn``; returns the same. Raises ConfigError: for a signal of another shape, or within a block.
        """
        block = self.window.block
        if not self.block_is_full:
            raise ConfigError(f"learn_block came after {self._position - self.window.history} of a block's {block} steps")
        if dL_dy.shape != (block, self.streams, self.network.d_out):
            shape, wanted = tuple(dL_dy.shape), (block, self.streams, self.network.d_out)
            raise ConfigError(f"dL_dy has shape {shape}: must be (block, streams, d_out) = {wanted}")
        self.window.take_block(dL_dy, loss)
        return self._update_if_full()

    # What they are made of

    def _update_if_full(self) -> ReplayEvents | None:
        if not self.block_is_full:
            return None
        if not self.learning:
            self._watch.look(self.window, self._always)
            return None
        return self._update()

    def _update(self) -> ReplayEvents | None:
        if self.credit.trigger == "clock":
            self.grad.zero_()
        events = self.credit.backward(self.window, self._memory, self._replay)
        if self.more is not None:
            self.more()
        if self._encoding is not None:
            self._encoding.learn()
        if self.credit.trigger == "clock":
            finite = self._step_of_optimizer(self.flat, self.grad, self._optim, None, self._decaying, self._counts)
        else:
            finite = self._triggered(events)
        self._watch.look(self.window, finite)
        return events

    def _triggered(self, events: ReplayEvents | None) -> Tensor:
        """Steps only when the block replayed more credit (without replay: lost more) than is typical.

        The gradient is kept until then.
        """
        total = events.credit.sum() if events is not None else self._block_loss()
        due = total > self._typical
        self._typical.lerp_(torch.nan_to_num(total), 1 - TRIGGER_DECAY)
        finite = self._step_of_optimizer(self.flat, self.grad, self._optim, due, self._decaying, self._counts)
        self.grad.masked_fill_(due | ~finite, 0.0)
        return finite

    def _block_loss(self) -> Tensor:
        return self.window.rings["loss"][self.window.history : self.window.end].sum()

    def _advance_if_full(self) -> None:
        """Offers the finished block to the macrostate and makes room for the next one."""
        if not self.block_is_full:
            return
        if self._usual is not None and self.learning:
            self._usual.follow(self.window)
        if self._familiar is not None and self.learning:
            exploration = self._exploration
            self._familiar.follow(self.window, None if exploration is None else exploration.arrays["exploring"])
        if self._fading is not None and self._exploration is not None and self.learning:
            self._fading.follow(self.window, self._exploration.arrays["exploring"])
        if self._memory is not None:
            offer_block(
                self.window,
                self._memory,
                self.retention,
                self._backend.score_block,
                self._backend.place_block,
                k_att=self.credit.k_att,
                draws=self.generator,
                usual=self._usual,
            )
        self.window.advance()
        self._position = self.window.history
        self._draw_noise()
        self.window.refresh(self._memory)

    def segments(self, rows: int) -> Segments:
        """Room to run up to ``rows`` segments of microstates again and walk them back, into this learner's gradient."""
        return Segments(self._parameters, rows=rows, k_trunc=self.credit.k_trunc)

    def check(self) -> None:
        """Raises NonFiniteError if a value met so far was NaN or infinite, ConfigError if ``all`` had to refuse a state."""
        self._watch.check()
        if isinstance(self.retention, All) and self._memory is not None and int(self._memory.arrays["refused"]):
            raise ConfigError(f"slots = {self.retention.slots}: retention 'all' had to refuse a microstate; use more")

    def evaluator(
        self, *, streams: int | None = None, seed: int = 0, learned: Mapping[str, Tensor] | None = None
    ) -> StreamingLearner:
        """A copy of what was learned (or of ``learned``) with a fresh memory; it never learns, this one is not touched."""
        other = StreamingLearner(
            self.network,
            credit=self.credit,
            retention=self.retention,
            optimizer=self.optimizer,
            encoder=self.encoder,
            familiar=self._familiar is not None,
            streams=self.streams if streams is None else streams,
            seed=seed,
            device=self.device,
            dtype=self.dtype,
            backend=self._backend.name,
        )
        source = self.learned if learned is None else learned
        for name, value in other.learned.items():
            value.copy_(source[name])
        other.learning = False
        other._exploration = other._fading = None
        other.window.refresh(other._memory)
        return other
