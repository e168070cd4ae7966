"""What a streaming learner is made of: its parts, made once and for good, and their state, saved and loaded as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .backend import BackendName, choose_backend
from .credit import CreditRule
from .devices import choose_device
from .dropout import Dropout, RecurrentDropout
from .encoder import Encoder, Encoding
from .errors import ConfigError
from .exploration import Exploration
from .fading import Fading
from .macrostate import Macrostate
from .network import Network, Parameters
from .optim import Optimizer
from .replay import Replay
from .retention import Retention
from .sparsify import SPARSIFIERS, Sparsifier
from .usual import UsualInput
from .views import StreamingViews


class LearnerParts(StreamingViews):
    """The parts of a ``StreamingLearner``, whose arguments these are; what it does with them is told there."""

    def __init__(
        self,
        network: Network,
        *,
        credit: CreditRule,
        retention: Retention,
        optimizer: Optimizer,
        encoder: Encoder | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        familiar: bool = False,
        streams: int = 1,
        seed: int = 0,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        backend: BackendName = "auto",
    ) -> None:
        _require_fitting(credit, retention, streams=streams, dtype=dtype)
        self.network, self.credit, self.retention, self.optimizer = network, credit, retention, optimizer
        self.streams, self.seed, self.learning = streams, seed, True
        self.device, self.dtype = choose_device(device), dtype
        slots = retention.slots if credit.recalls else 0
        self.encoder, raw, module = encoder, None, None
        if encoder is not None:
            raw, module = encoder.blank(self.device), encoder.copy(network.d_in, dtype, self.device)
        self._parameters = Parameters(
            network,
            recall=credit.recalls,
            slots=slots,
            dtype=dtype,
            device=self.device,
            encoder={name: tuple(p.shape) for name, p in module.named_parameters()} if module is not None else None,
        )
        self._parameters.initialise(seed)
        self._backend = choose_backend(backend, self._parameters, credit)
        self._optim = optimizer.state(self.flat)
        self._step_of_optimizer = self._backend.update(optimizer)
        self._decaying = self._parameters.salience_part()
        sparsifier = SPARSIFIERS[network.sparsify](credit.k_top, slots) if credit.recalls else None
        self._recurrent = self._make_recurrent_dropout(recurrent_dropout)
        self.window = self._backend.window(
            self._parameters,
            sparsifier,
            streams=streams,
            slots=slots,
            history=credit.k_trunc if credit.recalls else credit.k_trunc - credit.block,
            block=credit.block,
            k_trunc=credit.k_trunc,
            raw=raw,
            carried=None if self._recurrent is None else self._recurrent.arrays["carried"],
        )
        self._dropout: Dropout | None = None
        if dropout:
            width = self.window.rings["readout"].shape[2]
            self._dropout = Dropout(dropout, streams=streams, width=width, like=self.flat)
            self.window.drop(self._dropout.mask)
        self._familiar = self._backend.familiar(self._parameters, streams=streams) if familiar else None
        self._make_memory(slots, raw)
        self._encoding: Encoding | None = None
        if encoder is not None and module is not None:
            self._make_encoding(encoder, module)
        self.generator = torch.Generator(device=self.device).manual_seed(seed + 1)
        self.more: Callable[[], None] | None = None
        """Called in every update once credit has been assigned; what it adds to the gradient counts like the rest."""
        self._position = self.window.history
        self._watch = self._backend.watch(streams, self.device)
        self._always = torch.ones((), dtype=torch.bool, device=self.device)
        self._typical = self.flat.new_zeros(())
        self.clock = 0
        self._make_exploration(sparsifier, slots)
        self._draw_noise()
        if self._recurrent is not None:
            self._recurrent.begin(self._always.expand(streams))
        self.window.refresh(self._memory)

    def _make_recurrent_dropout(self, share: float) -> RecurrentDropout | None:
        """Raises ConfigError: a share outside [0, 1), or a cell whose only memory is what would be left out."""
        if not share:
            return None
        if not self._parameters.cell.has_c:
            cell = self.network.cell
            raise ConfigError(
                f"recurrent_dropout = {share}: needs a cell that remembers beside h (lstm, gru); cell is {cell}"
            )
        return RecurrentDropout(share, streams=self.streams, hidden=self.network.hidden, like=self.flat)

    def _make_memory(self, slots: int, raw: Tensor | None) -> None:
        """The macrostate, what replays from it, and the usual input, as far as the credit rule and retention have them."""
        self._memory: Macrostate | None = None
        self._replay: Replay | None = None
        self._usual: UsualInput | None = None
        credit, network = self.credit, self.network
        if not credit.recalls:
            return
        if self.retention.compares_input:
            self._usual = self._backend.usual(self._parameters, streams=self.streams, block=credit.block)
        self._memory = self._backend.macrostate(
            streams=self.streams,
            slots=slots,
            d_in=network.d_in,
            hidden=network.hidden,
            width_c=network.hidden if self._parameters.cell.has_c else 0,
            k_trunc=credit.k_trunc,
            like=self.flat,
            raw=raw,
            carries=self._recurrent is not None,
        )
        if credit.budget:
            self._replay = self._backend.replay(
                self._parameters,
                streams=self.streams,
                budget=credit.budget,
                k_trunc=credit.k_trunc,
                negligible=credit.negligible,
                threshold=credit.replay_threshold,
                share=credit.replay_share,
            )

    def _make_encoding(self, encoder: Encoder, module: nn.Module) -> None:
        """What turns observations into inputs, and is taught by the credit that reaches those."""
        self._encoding = Encoding(
            encoder,
            module,
            self._parameters,
            chain=self.window.rings["observation"][self.window.end - self.credit.k_trunc : self.window.end],
            segments=self.streams * self.credit.budget,
        )
        self.window.input_credit = self._encoding.chain_credit
        if self._replay is not None:
            self._replay.encoding = self._encoding

    def _make_exploration(self, sparsifier: Sparsifier | None, slots: int) -> None:
        """Exploration, and its fading, where the credit rule has them."""
        self._exploration: Exploration | None = None
        self._fading: Fading | None = None
        credit = self.credit
        if sparsifier is not None and sparsifier.explores and credit.explore > 0:
            self._exploration = self._backend.exploration(
                block=credit.block, streams=self.streams, slots=slots, temperature=credit.explore, like=self.flat
            )
            if self._familiar is not None:
                self._familiar.begin(self._exploration.arrays["exploring"], first=True)
            if credit.explore_fades:
                self._fading = Fading(block=credit.block, streams=self.streams, like=self.flat)
        self._counts = None if self._fading is None else self._fading.counts

    def _draw_noise(self) -> None:
        if self._exploration is not None:
            share = 0.5 if self._fading is None else self._fading.share.to(self.dtype)
            self._exploration.draw(self.generator, share)
        if self._dropout is not None:
            self._dropout.draw(self.generator)
        if self._recurrent is not None:
            self._recurrent.draw(self.generator)

    def state_dict(self) -> dict[str, Tensor | int]:
        """Everything: parameters, gradient, optimiser, macrostate, rings, generator, clocks; flat, by name."""
        self.window.settle(self._position)
        if self._memory is not None:
            self._memory.settle()
        state: dict[str, Any] = {"flat": self.flat.clone(), "grad": self.grad.clone()}
        for room, arrays in self._rooms().items():
            state |= {f"{room}.{name}": array.clone() for name, array in arrays.items()}
        return state | {"generator": self.generator.get_state(), "clock": self.clock, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned, exactly.

        Raises ConfigError: if it is of a learner of other sizes. KeyError: if something is missing.
        """
        for name, mine in self.state_dict().items():
            if isinstance(mine, Tensor) and mine.shape != state[name].shape:
                there, here = tuple(state[name].shape), tuple(mine.shape)
                raise ConfigError(f"state of another learner: {name} has shape {there}, here {here}")
        self.flat.copy_(state["flat"])
        self.grad.copy_(state["grad"])
        for room, arrays in self._rooms().items():
            for name, array in arrays.items():
                array.copy_(state[f"{room}.{name}"])
        self.generator.set_state(state["generator"].cpu())
        self.clock, self._position = int(state["clock"]), int(state["position"])
        self.window.origin.fill_(self.clock - self._position)
        if self._fading is not None:
            self._fading.refresh()
        self.window.refresh(self._memory)

    def _rooms(self) -> dict[str, dict[str, Tensor]]:
        w = self.window
        rooms = {"optimizer": self._optim, "ring": w.rings, "tape": w.tape, "trace": w.trace}
        rooms["learner"] = {"local": w.age, "fault": self._watch.fault, "typical": self._typical, "y": w.y}
        if self._memory is not None:
            rooms["macrostate"] = self._memory.arrays
        if self._replay is not None and self._replay.threshold:
            rooms["learner"]["usual_credit"] = self._replay.usual
        if self._usual is not None:
            rooms["usual"] = self._usual.arrays
        if self._familiar is not None:
            rooms["familiar"] = self._familiar.arrays | {"strange": self._familiar.strange}
        if self._encoding is not None and self._encoding.arrays:
            rooms["encoder"] = self._encoding.arrays
        if self._exploration is not None:
            rooms["learner"] |= self._exploration.arrays
        if self._fading is not None:
            rooms["fading"] = self._fading.arrays
        if self._dropout is not None:
            rooms["learner"]["mask"] = self._dropout.mask
        if self._recurrent is not None:
            rooms["learner"] |= self._recurrent.arrays
        return rooms


def _require_fitting(credit: CreditRule, retention: Retention, *, streams: int, dtype: torch.dtype) -> None:
    """Raises ConfigError: settings that do not fit each other."""
    if credit.attends:
        raise ConfigError(f"credit = {credit.name!r}: belongs to an AttentiveLearner, not to a StreamingLearner")
    if streams < 1:
        raise ConfigError(f"streams = {streams}: must be at least 1")
    if dtype not in (torch.float32, torch.float64):
        raise ConfigError(f"dtype = {dtype}: must be torch.float32 or torch.float64")
    if credit.recalls and retention.slots < credit.k_top:
        raise ConfigError(f"slots = {retention.slots}: must be at least k_top = {credit.k_top}")
    if credit.budget > retention.slots:
        raise ConfigError(f"replays = {credit.budget}: there are only slots = {retention.slots} to replay")
