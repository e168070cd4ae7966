"""Where to compute."""

from __future__ import annotations

import torch

from .errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")
"""What options may ask for."""


def choose_device(device: str | torch.device) -> torch.device:
    """ "auto" is CUDA where there is one. Raises ConfigError for CUDA where there is none."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device = {device!r}: must be cpu, cuda or auto") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device = {str(device)!r}: no CUDA device here; use cpu or auto")
    return chosen
