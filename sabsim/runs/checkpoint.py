"""Checkpoints: tensors and numbers in one safetensors file, replaced in one move; loading executes no code.

Everything needed to go on is in `checkpoint.safetensors`: the tensors, and in its header, as JSON, the
numbers and a digest. `checkpoint.json` repeats that JSON for people; nothing reads it, so a kill between the
two moves, which leaves it one checkpoint behind, does no harm.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sabsim.errors import RunFolderError
from sabsim.runs.folder import RunFolder, write_bytes, write_json

State = Mapping[str, Tensor | int | float | str]

_HEADER = "sabsim"


@dataclass(frozen=True)
class Checkpoint:
    """One moment of a run. `states`: each part's flat state, by its name; `numbers`: what JSON can hold."""

    states: dict[str, State]
    numbers: dict[str, Any]

    @property
    def played(self) -> State:
        """The parameters that an evaluation plays: those that did best on the validation part, if the run kept any."""
        last = "best" not in self.states or self.numbers.get("last_is_best", False)
        return self.states["parameters" if last else "best"]


def save_checkpoint(folder: RunFolder, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of the run.

    Raises:
        StorageError: the disk refuses; the checkpoint before is intact
    """
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, int | float | str]] = {}
    for part, state in checkpoint.states.items():
        scalars[part] = {}
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{part}.{name}"] = _alone(value)
            else:
                scalars[part][name] = value
    header = {"numbers": checkpoint.numbers, "scalars": scalars, "sha256": _digest(tensors)}
    write_bytes(folder.checkpoint, save(tensors, metadata={_HEADER: json.dumps(header)}))
    write_json(folder.sidecar, header)


def load_checkpoint(folder: RunFolder) -> Checkpoint:
    """The last checkpoint of the run, tensors on the CPU.

    Raises:
        RunFolderError: missing, truncated or otherwise damaged
    """
    path = folder.checkpoint
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        states: dict[str, State] = {
            part: scalars | {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
            for part, scalars in header["scalars"].items()
        }
        intact = header["sha256"] == _digest(tensors)
        numbers = header["numbers"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, str(error)) from error
    if not intact:
        raise _damaged(path, "its digest does not fit its contents")
    return Checkpoint(states={part: _with_later(state) for part, state in states.items()}, numbers=numbers)


def _with_later(state: State) -> State:
    """The state, of a part that an optimiser belongs to with what optimisers did not keep in the format's first folders."""
    usual, greatest = "optimizer.mean_square_norm", "optimizer.greatest_mean_square"
    return {greatest: state[usual], **state} if usual in state else state


def _damaged(path: Path, why: str) -> RunFolderError:
    return RunFolderError(
        f"'{path}': the checkpoint is missing or damaged ({why}); put back a copy of it, or start again with "
        "another --out (the tables in run.sqlite are intact)"
    )


def _alone(tensor: Tensor) -> Tensor:
    """The tensor on the CPU in a storage of its own, as the format wants it."""
    there = tensor.detach().to("cpu").contiguous()
    whole = there.untyped_storage().nbytes() == there.numel() * there.element_size()
    return there if whole else there.clone()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        if tensor.numel():
            digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
