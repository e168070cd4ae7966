"""The oracle: Sparse Attentive Backtracking with autograd, slow and literal.

`ReferenceLearner` takes the same outer calls as `sabsim.StreamingLearner` and computes the same gradient
another way: a Python loop over streams, steps and microstates, all history in lists, and one autograd graph
per update. It exists to hold the fast learner to account; nothing in the package depends on it. The semantics
are those of docs/algorithm.md, here in the order in which they are built:

1. *Block.* Updates come every `update_every` steps. The loss is the sum over the block's steps of <dL_dy, y>.
2. *Main chain.* The last `k_trunc` steps ending at the block's end are run again from h and c held constant;
   a reset starts the chain anew. Each step starts from the values it had, with the gradient of today's
   parameters: that matters only where the parameters have changed since, in steps before the block. The same
   goes for inputs that an encoder made.
3. *Twins.* A microstate read in the chain has the value that was stored and the gradient of its twin: its
   segment, the last `min(k_trunc, steps since the reset)` steps up to it, run again from the constant state
   before the segment with today's parameters, the segment's inputs (with an encoder: its observations) and
   summaries being constants. One hop: the twin's own recalls carry no credit.
4. *Limit.* Only the `replays` microstates of greatest credit norm per stream and update have their twin
   connected.

With `whole_sequence=True` microstates are read directly, so that credit recurses through recall without
limit, and the chain is cut only on the grid of the authors' released code; `finish` returns that gradient.

What retention does is no business of the oracle: it is told at every step which source steps the slots hold.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sabsim.errors import ConfigError
from sabsim.reference_equations import Equations, Parameters, cell_step
from sabsim.reference_history import Moment, StreamHistory

Source = tuple[int, int]  # (stream, global step at which the microstate was formed)
Gradients = dict[str, Tensor]


def _with_gradient(value: Tensor, of: Tensor) -> Tensor:
    """`value`, a constant, with the gradient of `of` (straight-through)."""
    return value + (of - of.detach())


class ReferenceLearner:
    """Autograd twin of the streaming learner.

    Args:
        parameters: name -> tensor, as `StreamingLearner.parameters`; copied, and kept as leaves in
            `self.parameters`.
        streams: number of streams B.
        k_top: microstates considered at each step; 0 switches recall off.
        k_trunc: steps of the main chain and of a segment.
        k_att: every k_att-th step of a sequence may be remembered; used to check what the oracle is told.
        update_every: steps per block, 1 to `k_trunc`; default `k_trunc`.
        replays: segments per stream and update; default unlimited; 0 is recall without replay.
        cell, salience, sparsify, stores, readout, feeds: variants, see `Equations`.
        slots: size of the macrostate.
        whole_sequence: recursion without limit; parameters must then stay as they are until `finish`.
        encoder: what turns the parameters and an observation into x of shape `(d_in,)`; default: observations are x.
        update: called with `(parameters, gradients)` at the end of every block, without gradient tracking;
            may change the parameters in place (online training). Default: parameters stay frozen.

    Attributes:
        credit: after an update, (stream, source step) -> dL/dm of shape `(n,)` for every microstate that
            received any.
        replayed: the sources whose twins were connected in the last update.
        clock: steps seen.

    Raises:
        ConfigError: an argument is outside its range.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        streams: int,
        k_top: int,
        k_trunc: int,
        k_att: int = 1,
        update_every: int | None = None,
        replays: int | None = None,
        cell: str = "lstm",
        salience: str = "cosine",
        sparsify: str = "softmax",
        stores: str = "h_hat",
        readout: str = "summary",
        feeds: str = "h",
        slots: int = 0,
        whole_sequence: bool = False,
        encoder: Callable[[Parameters, Tensor], Tensor] | None = None,
        update: Callable[[Gradients, Gradients], None] | None = None,
    ) -> None:
        self.k_trunc, self.k_att = k_trunc, k_att
        self.update_every = k_trunc if update_every is None else update_every
        if not 1 <= self.update_every <= k_trunc:
            raise ConfigError(f"update_every is {self.update_every}; allowed: 1 to k_trunc ({k_trunc})")
        kinds = {"cell": cell, "salience": salience, "sparsify": sparsify}
        places = {"stores": stores, "readout": readout, "feeds": feeds}
        self.equations = Equations(**kinds, **places, k_top=k_top, slots=slots)
        self.parameters = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
        self.replays, self.whole_sequence, self._update = replays, whole_sequence, update
        self._encoder = encoder
        self.credit: dict[Source, Tensor] = {}
        self.replayed: set[Source] = set()
        self.clock = 0
        zeros = self.parameters["cell.W_h"].new_zeros(self.parameters["cell.W_h"].shape[1])
        self._streams = [StreamHistory(zeros, zeros) for _ in range(streams)]
        self._outputs = zeros.new_zeros(streams, self.parameters["readout.b"].numel())
        self._loss = zeros.new_zeros(())

    def reset(self, done: Tensor) -> None:
        """Streams where `done`, shape `(streams,)` bool, begin a new sequence with the next step."""
        for b, stream in enumerate(self._streams):
            if bool(done[b]):
                stream.h, stream.c = torch.zeros_like(stream.h), torch.zeros_like(stream.c)
                stream.first, stream.local = True, 0

    def step(
        self,
        x: Tensor,
        birth: Tensor | None = None,
        temperature: Tensor | None = None,
        mask: Tensor | None = None,
        carried: Tensor | None = None,
    ) -> Tensor:
        """One forward step of every stream.

        Args:
            x: inputs, shape `(streams, d_in)`; with an encoder observations, one a stream.
            birth: source step held in each slot, shape `(streams, slots)` int, -1 where empty; after any
                reset. None means that nothing is held.
            temperature: what each stream's scores are divided by, shape `(streams,)`; None means 1.
            mask: what the readout's input is multiplied by, shape `(streams, w)`; None means 1.
            carried: what h is multiplied by on its way into the next step, shape `(streams, n)`; None means 1.

        Returns:
            Outputs, shape `(streams, d_out)`, without gradient.

        Raises:
            ConfigError: a slot is said to hold a step that cannot be there.
        """
        outputs = []
        for b, stream in enumerate(self._streams):
            held = [] if birth is None else [(slot, int(i)) for slot, i in enumerate(birth[b]) if i >= 0]
            self._check_held(b, stream, held)
            with torch.set_grad_enabled(self.whole_sequence):
                warmth = 1.0 if temperature is None else float(temperature[b])
                left, passed = (None if each is None else each[b].detach().clone() for each in (mask, carried))
                outputs.append(self._step_stream(b, x[b].detach().clone(), held, warmth, left, passed))
            stream.first, stream.local = False, stream.local + 1
        self.clock += 1
        self._outputs = torch.stack(outputs)
        return self._outputs.detach()

    def _step_stream(
        self,
        b: int,
        observation: Tensor,
        held: list[tuple[int, int]],
        temperature: float,
        mask: Tensor | None,
        carried: Tensor | None,
    ) -> Tensor:
        stream = self._streams[b]
        x, h, c = self._encode(observation), stream.h, stream.c
        if self.whole_sequence and (stream.local + 1) % self.k_trunc == 0:
            h, c = h.detach(), c.detach()  # the released code's grid
        memory = [(slot, stream.moments[i].m) for slot, i in held]
        out = self.equations.step(self.parameters, x, h, c, memory, temperature, mask)
        self._formed((b, len(stream.moments)), out.h_hat)
        m = out.h_hat if self.equations.stores == "h_hat" else out.h
        a_tilde = out.a_tilde.detach()
        happened = Moment(
            observation, x, h, c, stream.first, stream.local, held, out.s, m, a_tilde, temperature, mask, carried
        )
        stream.moments.append(happened)
        stream.h, stream.c = happened.carry(self.equations.fed(out.h_hat, out.s)), out.c
        return out.y

    def _formed(self, source: Source, h_hat: Tensor, *, twin: bool = False) -> None:
        """Hears of every provisional state as it enters a graph; for those who measure credit on the way."""

    def _encode(self, observation: Tensor) -> Tensor:
        """x of an observation by today's parameters, shape `(d_in,)`."""
        return observation if self._encoder is None else self._encoder(self.parameters, observation)

    def _check_held(self, b: int, stream: StreamHistory, held: list[tuple[int, int]]) -> None:
        """What is told must be possible: earlier blocks, this sequence, the grid of k_att, no step twice."""
        begin, block = self.clock - stream.local, self.clock - self.clock % self.update_every
        for _, i in held:
            if not begin <= i < block or (i - begin) % self.k_att != self.k_att - 1:
                allowed = f"every {self.k_att}-th step from {begin} to {block - 1}"
                raise ConfigError(f"birth of stream {b} holds step {i}; allowed: {allowed}")
        if len({i for _, i in held}) != len(held):
            raise ConfigError(f"birth of stream {b} is {held}; allowed: each step once")

    def learn(self, dL_dy: Tensor) -> Gradients | None:
        """Accepts the learning signal of the last step.

        Args:
            dL_dy: gradient of the total loss with respect to the last outputs, shape `(streams, d_out)`.

        Returns:
            At the end of a block its gradient by parameter name, otherwise None. Always None with
            `whole_sequence`.
        """
        for b, stream in enumerate(self._streams):
            stream.moments[-1].dL_dy = dL_dy[b].detach().clone()
        if self.whole_sequence:
            self._loss = self._loss + (dL_dy.detach() * self._outputs).sum()
            return None
        if self.clock % self.update_every:
            return None
        gradients = self._block_gradient()
        if self._update is not None:
            with torch.no_grad():
                self._update(self.parameters, gradients)
        return gradients

    def finish(self) -> Gradients:
        """The gradient of everything since the last `finish`, with `whole_sequence` only."""
        gradients = self._differentiate(self._loss)
        self._loss = torch.zeros_like(self._loss)
        return gradients

    def _differentiate(self, loss: Tensor) -> Gradients:
        names, leaves = list(self.parameters), list(self.parameters.values())
        found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True, retain_graph=True)
        return dict(zip(names, found, strict=True))

    def _block_gradient(self) -> Gradients:
        """Gradient of the finished block, built twice: first without twins, to see where credit falls."""
        stored = {source: self._stored(source).requires_grad_() for source in sorted(self._remembered())}
        self.credit, self.replayed = {}, set()
        if stored:
            loss = self._block_loss(lambda i: stored.get(i, self._stored(i)))
            found = torch.autograd.grad(loss, list(stored.values()), allow_unused=True)
            self.credit = {source: g for source, g in zip(stored, found, strict=True) if g is not None and g.norm() > 0}
            self.replayed = self._greatest_credit()
        connected = {i: _with_gradient(self._stored(i), self._twin(i)) for i in sorted(self.replayed)}
        return self._differentiate(self._block_loss(lambda i: connected.get(i, self._stored(i))))

    def _stored(self, source: Source) -> Tensor:
        b, i = source
        return self._streams[b].moments[i].m.detach().clone()

    def _remembered(self) -> set[Source]:
        """Microstates held during the block: one evicted since a step of the chain read it gets no credit."""
        return {
            (b, i)
            for b, stream in enumerate(self._streams)
            for moment in stream.moments[-self.update_every :]
            for _, i in moment.held
        }

    def _greatest_credit(self) -> set[Source]:
        if self.replays is None:
            return set(self.credit)
        chosen: set[Source] = set()
        for b in range(len(self._streams)):
            mine = [source for source in self.credit if source[0] == b]
            mine.sort(key=lambda source: -self.credit[source].norm().item())
            chosen.update(mine[: self.replays])
        return chosen

    def _twin(self, source: Source) -> Tensor:
        """h_hat of a microstate rebuilt from the constant state before its segment; shape `(n,)`."""
        b, i = source
        moments = self._streams[b].moments
        begin = i + 1 - min(self.k_trunc, moments[i].local + 1)
        h, c = moments[begin].h_before, moments[begin].c_before
        for step, moment in enumerate(moments[begin : i + 1], begin):
            x = self._encode(moment.observation)
            h_hat, c = cell_step(self.equations.cell, self.parameters, x, h, c)
            self._formed((b, step), h_hat, twin=True)
            h = moment.carry(self.equations.fed(h_hat, moment.s))
        return h_hat

    def _block_loss(self, read: Callable[[Source], Tensor]) -> Tensor:
        """Sum over the block's steps of <dL_dy, y>, microstates read through `read`."""
        loss = torch.zeros_like(self._loss)
        for b, stream in enumerate(self._streams):
            window = stream.moments[-self.k_trunc :]
            h, c = window[0].h_before, window[0].c_before
            for position, moment in enumerate(window):
                if moment.first:
                    h, c = moment.h_before, moment.c_before
                h, c = _with_gradient(moment.h_before, h), _with_gradient(moment.c_before, c)
                x = _with_gradient(moment.x, self._encode(moment.observation))
                memory = [(slot, read((b, i))) for slot, i in moment.held]
                out = self.equations.step(self.parameters, x, h, c, memory, moment.temperature, moment.mask)
                self._formed((b, len(stream.moments) - len(window) + position), out.h_hat)
                h, c = moment.carry(self.equations.fed(out.h_hat, out.s)), out.c
                if position >= len(window) - self.update_every and moment.dL_dy is not None:
                    loss = loss + moment.dL_dy @ out.y
        return loss
