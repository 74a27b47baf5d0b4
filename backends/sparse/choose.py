"""Whether the sparse engine is asked, by counted ``costs``: what a call costs more is earned back by so many problems.

Small models and models that are mostly full are told by their sizes alone. For the others the pattern is analysed: that takes up to
seconds for the largest, once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...canon.blocks import Block
from ...canon.factors import Fixed
from ...canon.param_qp import ParamQP
from .. import batching
from ..adjoint import dual_level
from ..failure import InputError, input_error
from ..options import Options
from ..plan import plan_of
from . import costs
from .tables import counted
from .values import TooDenseError

SMALL = 1_000  # n (n + m + k) below which nothing is saved
FULL = 0.4  # share of entries from which a model is dense
FEW = 8  # problems: with ``batch_invariant`` the sparse engine serves every batch if it pays from these on
TOO_LARGE = 2**29  # bytes of dense matrices that are never made


@dataclass(frozen=True)
class Choice:
    """Whether the sparse engine serves a model, whether no other can, and why, in words; and how many problems it takes to pay."""

    sparse: bool
    only: bool
    why: str
    least: int = 1


def choice(qp: ParamQP, options: Options) -> Choice:
    """The engine of a model. Raises InputError where the sparse one is demanded and cannot be."""
    found = _counted(qp)
    if options.backend == "sparse":
        if found.why == PRODUCTS:
            title, mend = "this model is not sparse", 'leave backend at "auto"'
            raise input_error("I13", title, PRODUCTS, mend, at=("backend",), label="")
        return Choice(True, found.only, "asked for by backend")
    if options.backend != "auto" or options.smoothing:
        return Choice(False, False, "")
    return found


PRODUCTS = "its products of parameters form more entries than a sparse engine should handle"


@lru_cache(maxsize=256)
def _counted(qp: ParamQP) -> Choice:
    n, rows = qp.n, qp.m + qp.k
    places = n * (n + rows)
    entries = sum(_entries(block) for block in (qp.Q, qp.G, qp.A)) + sum(_entries(gram.E) for gram in qp.grams)
    only = 8 * places > TOO_LARGE
    if places < SMALL:
        return Choice(False, False, "")
    if entries > FULL * places:
        return Choice(False, False, f"{100 * min(1, entries / places):.0f} % of the places in Q, G, A are taken")
    try:
        structure = plan_of(qp).structure
    except TooDenseError:
        return Choice(False, False, PRODUCTS)
    share = structure.entries / places
    if share > FULL:
        return Choice(False, False, f"{100 * share:.0f} % of the places in Q, G, A are taken")
    dense, system = costs.dense(n, rows), counted(structure)
    if system is None:
        sparse, more = costs.alone(structure.analysis), 0.0
    else:
        sparse, more = costs.together(system.products, structure.entries + system.stored), costs.PER_CALL
    told = (
        f"{structure.entries:,} of {places:,} places in Q, G, A are taken; estimated {sparse / 1e6:,.2f} ms an item, "
        f"dense {dense / 1e6:,.2f} ms"
    )
    pays = sparse < dense
    return Choice(only or pays, only, told, math.ceil(more / (dense - sparse)) if pays and more else 1)


def _entries(block: Block) -> int:
    """Entries of a block, products counted by their factors."""
    found = int(block.constant.nnz) + sum(len(entries.rows) for entries in block.entries)
    for placed in block.products:
        found += max(f.matrix.nnz if isinstance(f, Fixed) else len(f.rows) for f in placed.term)
    return found


def dense_or_error(qp: ParamQP, what: str) -> None:
    """Raises InputError if ``what``, which needs dense matrices, would make enormous ones."""
    size = 8 * qp.n * (qp.n + qp.m + qp.k)
    if size > TOO_LARGE:
        why = f"it works on dense matrices, which would take {size / 2**30:,.1f} GiB for n={qp.n}, m={qp.m}, k={qp.k}"
        raise input_error("I13", f"{what} is for smaller models", why, "try it on a smaller instance of the model", label="")


def asked(qp: ParamQP, options: Options, like: Tensor, batch: int) -> bool:
    """Whether a call for so many problems goes to the sparse engine. Raises InputError as ``serves`` does."""
    if options.backend == "auto":
        size = FEW if options.batch_invariant else max(batch, 1)  # an empty batch is as large as its matrices
        if size * costs.dense(qp.n, qp.m + qp.k) <= costs.PER_CALL or size < choice(qp, options).least:
            return False
    return serves(choice(qp, options), options, like)


def serves(chosen: Choice, options: Options, like: Tensor) -> bool:
    """Whether this call goes to the sparse engine. Raises InputError where only that could serve it, and does not."""
    if not chosen.sparse:
        return False
    hindrance = _hindrance(options, like)
    if hindrance is None:
        return True
    if chosen.only or options.backend == "sparse":
        raise hindrance
    return False


def _hindrance(options: Options, like: Tensor) -> InputError | None:
    """What the sparse engine does not do."""
    why = "the sparse engine works in float64 on a CPU, outside of torch.func, and solves the exact problem"
    if not like.is_cpu or like.dtype != torch.float64:
        mend = 'move the inputs to the CPU\nor use backend="torch", as far as memory goes'
        return input_error("I08", f"the sparse engine does not run on {like.device.type}", why, mend, label="")
    if options.smoothing:
        return input_error("I13", "option smoothing: not with the sparse engine", why, "leave smoothing at 0", at=("smoothing",))
    if batching.transformed() or dual_level():
        mend = "pass a batch instead of mapping over it, and differentiate by backward or torch.autograd.grad"
        return input_error("I13", "torch.func and forward mode do not reach the sparse engine", why, mend, label="")
    return None
