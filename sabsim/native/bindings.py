"""Connects tensors with the C functions: structs as ``learner.h`` declares them, filled with the tensors' addresses."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_HEADER = (Path(__file__).parent / "learner.h").read_text(encoding="utf-8")
_FIELD = re.compile(r"^    (?:const )?(int64_t|double|real|uint8_t|char) (\*?)(\w+);", re.MULTILINE)
_PLAIN: dict[str, Any] = {"int64_t": ctypes.c_int64, "double": ctypes.c_double}
_WORD, _PLACE = ctypes.c_int64, ctypes.c_void_p
_SIGNATURES: dict[str, list[Any]] = {
    "pack_weights": [_PLACE],
    "step": [_PLACE, _WORD, _PLACE, _WORD, _WORD],
    "steps": [_PLACE, _PLACE, _WORD, _WORD, _PLACE],
    "take": [_PLACE, _WORD, _PLACE, _PLACE],
    "cut": [_PLACE, _WORD, _PLACE],
    "backward": [_PLACE, _PLACE, _WORD],
    "settle": [_PLACE, _WORD],
    "advance": [_PLACE],
    "look": [_PLACE],
    "follow": [_PLACE, ctypes.c_double],
    "familiar": [_PLACE, ctypes.c_double],
    "novelty": [_PLACE, _WORD, ctypes.c_double],
    "noise": [_WORD, _PLACE, _PLACE],
    "choose": [_PLACE, ctypes.c_double, _PLACE, _PLACE],
    "replay": [_PLACE] * 6,
    "describe": [_PLACE, _PLACE, _WORD, _PLACE, _PLACE],
    "clear": [_PLACE, _PLACE],
    "toss": [_PLACE, _PLACE],
    "offer": [_PLACE, _WORD, _WORD, _WORD, _WORD],
    "adam": [_PLACE, _WORD],
    "refresh": [_PLACE, _WORD, _WORD],
    "attentive_pack": [_PLACE, _PLACE],
    "attentive_refresh": [_PLACE, _PLACE],
    "attentive_step": [_PLACE, _PLACE, _WORD, _PLACE],
    "attentive_backward": [_PLACE, _PLACE],
}
"""Arguments of every C function, by its name without the prefix ``sab_``; what the pointers are is in the C files."""
_told: dict[str, int] = {}
"""How many threads each library was last told to use, by its file."""


def _fields(struct: str) -> dict[str, tuple[str, bool]]:
    """Name -> (C type, whether it is a pointer) of a struct in ``learner.h``, in order."""
    body = re.search(r"typedef struct \{([^}]*)\} " + struct + ";", _HEADER)
    assert body is not None
    return {name: (kind, bool(star)) for kind, star, name in _FIELD.findall(body[1])}


class Struct:
    """A C struct and the tensors whose addresses are in it, which must live as long."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self._fields = _fields(name)
        self._dtypes = {"int64_t": torch.int64, "double": torch.float64, "real": dtype}
        self._dtypes |= {"uint8_t": torch.bool, "char": torch.uint8}
        layout = [(field, _PLACE if star else _PLAIN[kind]) for field, (kind, star) in self._fields.items()]
        self._struct: Any = type(name, (ctypes.Structure,), {"_fields_": layout})()
        self.tensors: dict[str, Tensor] = {}
        self.address = ctypes.addressof(self._struct)

    def set(self, **numbers: float) -> None:
        """Sets plain fields."""
        for name, value in numbers.items():
            assert not self._fields[name][1], name
            setattr(self._struct, name, value)

    def bind(self, **tensors: Tensor) -> None:
        """Sets pointers: each tensor must be contiguous and of the field's type."""
        for name, tensor in tensors.items():
            assert self._fields[name][1], name
            assert tensor.is_contiguous(), name
            assert tensor.dtype is self.dtype_of(name), name
            self.tensors[name] = tensor
            setattr(self._struct, name, tensor.data_ptr() if tensor.numel() else None)

    def dtype_of(self, name: str) -> torch.dtype:
        """The type of the tensor that a pointer field wants."""
        return self._dtypes[self._fields[name][0]]


class Calls:
    """The C functions on one learner: ``calls.step(...)`` is ``sab_step``, whose first argument is the learner's struct."""

    def __init__(self, library: ctypes.CDLL, like: Tensor) -> None:
        for name, kinds in _SIGNATURES.items():
            function = getattr(library, f"sab_{name}")
            function.argtypes, function.restype = kinds, ctypes.c_int64 if name in ("look", "adam") else None
            setattr(self, name, function)
        library.sab_packed_size.argtypes = [_WORD, _WORD]
        library.sab_packed_size.restype = _WORD
        library.sab_use_threads.argtypes, library.sab_use_threads.restype = [_WORD], None
        self.packed_size, self.use_threads = library.sab_packed_size, library.sab_use_threads
        self._library: str = library._name
        self.like = like
        self.learner = Struct("Learner", like.dtype)
        self.at = self.learner.address
        self._packed_version = -1
        self._packings = 0

    def __getattr__(self, name: str) -> Any:
        # Only for names that are not there; it tells type checkers that the C functions, set by name, can be.
        raise AttributeError(name)

    def scratch(self, **shapes: tuple[int, ...]) -> None:
        """Binds new buffers of zeros; the fields say of which type."""
        for name, shape in shapes.items():
            self.learner.bind(**{name: torch.zeros(shape, dtype=self.learner.dtype_of(name))})

    def changed(self) -> None:
        """To be called when C has changed the parameters, which torch does not notice."""
        self._packed_version = -1

    def pack(self) -> int:
        """Packs the weights if the parameters have changed, by whatever hand; returns how often it has packed.

        Every computation begins with it, so here the library hears of it when torch has been given more threads or fewer.
        """
        if (threads := torch.get_num_threads()) != _told.get(self._library):
            self.use_threads(threads)
            _told[self._library] = threads
        version = self.like._version
        if version != self._packed_version:
            self.pack_weights(self.at)
            self._packed_version = version
            self._packings += 1
        return self._packings


def ready(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The tensor as C can read it: of this shape and type, contiguous, in main memory; itself if it already is."""
    if tensor.dtype is dtype and tensor.shape == shape and tensor.is_cpu and tensor.is_contiguous():
        return tensor
    return tensor.to(device="cpu", dtype=dtype).expand(shape).contiguous()
