"""Counting the work: floating-point operations of the matrix products each thing needs, and those products alone.

Only products of matrices with the parameters and of gradients are counted (a multiplication and an addition are two
operations), not what is done number by number. A share of the GEMM rate below 1 is therefore not all waste.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .case import GEMM, Variant


class Product(NamedTuple):
    """``times`` products of an (m, k) with a (k, n) matrix."""

    m: int
    k: int
    n: int
    times: int = 1

    @property
    def flops(self) -> float:
        """Operations of all of them."""
        return 2.0 * self.m * self.k * self.n * self.times


def total(products: Sequence[Product]) -> float:
    """Operations of all products."""
    return sum(product.flops for product in products)


def lstm_products(rows: int, steps: int, n: int, d: int) -> list[Product]:
    """An LSTM's forward steps, its steps back, and the parameter gradient as one product."""
    return [
        Product(rows, d + n, 4 * n, steps),
        Product(rows, 4 * n, n, steps),
        Product(4 * n, rows * steps, d + n),
    ]


def chain_vjp_products(rows: int, steps: int, n: int, d: int, k_top: int) -> list[Product]:
    """The backward pass of the streaming window: the cell, and the cosine salience of ``k_top`` read microstates a step."""
    read = rows * steps * k_top
    return [
        *lstm_products(rows, steps, n, d)[1:],
        Product(rows, n, n, steps),  # credit on the query -> on h_hat
        Product(n, rows * steps, n),  # gradient of W_q
        Product(read, n, n, 2),  # projections of what was read, and credit through them
        Product(n, read, n),  # gradient of W_k
    ]


def window_products(streams: int, steps: int, n: int, d: int, d_out: int, *, slots: int, k_top: int) -> list[Product]:
    """A block of ``steps`` steps of the streaming learner with one update, without its replays."""
    return [
        Product(streams, d + n, 4 * n, steps),
        Product(streams, n, n, steps),  # queries
        Product(streams * slots, n, 1, steps),  # scores
        Product(streams * slots, n, n),  # keys, once per update
        Product(streams, 2 * n, d_out, 3 * steps),  # readout: forward, credit, gradient
        *chain_vjp_products(streams, steps, n, d, k_top),
    ]


def bptt_products(rows: int, steps: int, n: int, d: int, d_out: int) -> list[Product]:
    """An LSTM and a linear readout, forward and back."""
    return [*lstm_products(rows, steps, n, d), Product(rows * steps, n, d_out, 3)]


def gemm(products: Sequence[Product], *, units: float, device: torch.device, note: str = "") -> Variant:
    """The variant that multiplies and does nothing else; a product's operands are used again ``times`` times."""
    work = []
    for product in products:
        left = torch.randn(product.m, product.k, device=device)
        right = torch.randn(product.k, product.n, device=device)
        work.append((left, right, left.new_empty(product.m, product.n), product.times))

    @torch.no_grad()
    def call() -> None:
        for left, right, out, count in work:
            for _ in range(count):
                torch.mm(left, right, out=out)

    return Variant(name=GEMM, call=call, units=units, flops=total(products), note=note, graph=True)
