"""Row 10: a sequence learned by the rivals with self-attention, by backpropagation through all of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ..attentive import AttentiveLearner
from ..credit import FullAttention, ScreenedAttention
from ..errors import SabsimError
from ..network import Network
from ..optim import Adam
from ..retention import All, Relevancy
from .backends import ours
from .case import Case, CaseResult, Plan, Row, Variant
from .contenders import FUSED
from .fused import LSTMLearner
from .recording import Recording
from .settings import HIDDEN, Settings
from .timing import Timer

STREAMS, NU, RHO = 16, 10, 15


def cases(settings: Settings) -> list[Plan]:
    """One case for each T and kind of memory."""
    lengths = settings.pick((100, 764), (10,))
    return [
        Plan(f"{'RelLSTM' if screened else 'MemLSTM'}, T = {T}", partial(_measure, settings, T, screened))
        for T in lengths
        for screened in (False, True)
    ]


def _measure(settings: Settings, T: int, screened: bool, timer: Timer) -> CaseResult:
    n, streams = 16 if settings.quick else HIDDEN, 2 if settings.quick else STREAMS
    recording = Recording(T, streams, seed=settings.seed, device=settings.device)
    steps, task = recording.steps, recording.task
    variants, refused = [], dict[str, str]()
    for backend in settings.backends.names:
        name = ours(backend, "RelLSTM" if screened else "MemLSTM")
        try:
            learner = AttentiveLearner(
                Network(d_in=task.d_in, d_out=task.d_out, hidden=n),
                credit=ScreenedAttention(length=steps) if screened else FullAttention(length=steps),
                retention=Relevancy(slots=NU + RHO, buffer=NU) if screened else All(slots=steps),
                optimizer=Adam(),
                streams=streams,
                seed=settings.seed,
                device=settings.device,
                backend=backend,
            )
        except SabsimError as error:
            refused[name] = str(error)
            continue
        variants.append(Variant(name=name, call=_play(learner, recording), units=streams))
    fused = LSTMLearner(task.d_in, n, task.d_out, window=None, device=settings.device)
    learn = partial(fused.learn, recording.x, recording.target)
    variants.append(Variant(name=FUSED, call=learn, units=streams, note="BPTT through as many steps, without attention"))
    sizes: dict[str, int | str] = {"T": T, "steps": steps, "streams": streams, "n": n}
    if screened:
        sizes |= {"nu": NU, "rho": RHO}
    return timer.compare(Case(parameters=sizes, unit="sequence", base=FUSED, variants=variants, refused=refused))


def _play(learner: AttentiveLearner, recording: Recording) -> Callable[[], None]:
    """A whole sequence of every stream, and its update."""
    begin = torch.ones(learner.streams, dtype=torch.bool, device=learner.device)

    def call() -> None:
        learner.reset(begin)
        y = learner.step_block(recording.x)
        learner.learn_block(torch.softmax(y, 2).sub_(recording.wanted).div_(learner.streams))

    return call


ROW = Row(
    name="rivals",
    title="rivals with self-attention",
    purpose="copying at T = 100 and at as many steps as an image of MNIST has pixels, 16 streams: full self-attention "
    "(MemLSTM) and relevancy screening (RelLSTM, nu = 10, rho = 15), backpropagation through the whole sequence and the "
    "update, per sequence; nn.LSTM by BPTT, which attends to nothing, beside them.",
    cases=cases,
)
