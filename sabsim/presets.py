"""Named combinations of the pluggable pieces."""

from __future__ import annotations

from dataclasses import dataclass

from .network import FeedsName, ReadoutName, SalienceName, SparsifyName, StoresName


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The five pieces a preset chooses, and what it is for."""

    salience: SalienceName
    sparsify: SparsifyName
    stores: StoresName
    readout: ReadoutName
    purpose: str
    feeds: FeedsName = "h"


PRESETS: dict[str, Preset] = {
    "stable": Preset(
        salience="cosine", sparsify="softmax", stores="h_hat", readout="summary", purpose="everything; the default"
    ),
    "paper": Preset(
        salience="affine", sparsify="relu", stores="h", readout="weights", purpose="the paper's eq. 1-5, literally"
    ),
    "released": Preset(
        salience="tanh", sparsify="normalised", stores="h", readout="summary", purpose="the authors' released code"
    ),
}
