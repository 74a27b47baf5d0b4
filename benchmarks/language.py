"""What the language costs: compiling a model, and a call of the layer beside the same call of ``solve_qp``."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import sparse

import karush as kr
from benchmarks.random_qps import random_qps
from benchmarks.timing import now, shown, told
from karush.canon.canonicalize import REMEMBERED

N, M = 100, 200


def parametric() -> kr.Problem:
    """Every block a parameter."""
    x = kr.Variable(N, name="x")
    P, q = kr.Parameter((N, N), PSD=True, name="P"), kr.Parameter(N, name="q")
    G, h = kr.Parameter((M, N), name="G"), kr.Parameter(M, name="h")
    return kr.Problem(kr.Minimize(0.5 * kr.quad_form(x, P) + q @ x), [G @ x <= h])


def constant() -> kr.Problem:
    """A dense constant least-squares term, an absolute value, a box and constant rows."""
    F = np.random.default_rng(0).standard_normal((M, N))
    x, q, h = kr.Variable(N, name="x"), kr.Parameter(N, name="q"), kr.Parameter(M, name="h")
    cost = kr.sum_squares(F @ x - h) + q @ x + 0.1 * kr.norm1(x[:10])
    return kr.Problem(kr.Minimize(cost), [F @ x <= h, x >= -1, x <= 2, kr.sum(x) == 1])


def scalar_rows() -> kr.Problem:
    """200 constraints written one by one, in a Python loop."""
    F = np.random.default_rng(0).standard_normal((M, N))
    x, q, h = kr.Variable(N, name="x"), kr.Parameter(N, name="q"), kr.Parameter(M, name="h")
    return kr.Problem(kr.Minimize(kr.sum_squares(x - q)), [F[i] @ x <= h[i] for i in range(M)])


def sparse_rows() -> kr.Problem:
    """5,000 variables in bounds and some 10,000 rows: limits on what changes, and half of them with ten entries each."""
    n = 5000
    A = sparse.random_array((n, n), density=10 / n, rng=np.random.default_rng(0), format="csr")
    x, c, h = kr.Variable(n, name="x"), kr.Parameter(n, name="c"), kr.Parameter(n, name="h")
    rows = [A @ x <= h, kr.diff(x) <= 0.5, x >= -1, x <= 1]
    return kr.Problem(kr.Minimize(kr.sum_squares(x - c)), rows)


def anew(problem: kr.Problem) -> kr.Layer:
    """Compile a problem as if none of its structure had been met."""
    REMEMBERED.clear()
    return kr.compile(problem)


def milliseconds(run: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.process_time()  # one thread does it all, and the neighbours do not count
        run()
        times.append(time.process_time() - start)
    return [1e3 * one for one in times]


def compiling(repeats: int) -> None:
    print(f"\n{N} variables and {M} constraints, median (quartiles) of {repeats}: milliseconds to build and to compile")
    print("and 5,000 variables, 10,000 sparse rows")
    for build in (parametric, constant, scalar_rows, sparse_rows):
        problem = build()
        kr.compile(problem)
        built, compiled = milliseconds(build, repeats), milliseconds(partial(anew, problem), repeats)
        print(f"  {build.__name__:<12} {shown(built):>24}{shown(compiled):>24}")


def calling(repeats: int) -> None:
    n, m, k = 10, 20, 5
    x = kr.Variable(n, name="x")
    P, q = kr.Parameter((n, n), PSD=True, name="P"), kr.Parameter(n, name="q")
    G, h = kr.Parameter((m, n), name="G"), kr.Parameter(m, name="h")
    A, b = kr.Parameter((k, n), name="A"), kr.Parameter(k, name="b")
    layer = kr.compile(kr.Problem(kr.Minimize(0.5 * kr.quad_form(x, P) + q @ x), [G @ x <= h, A @ x == b]))
    print(f"\ncall, (n, m, k) = {(n, m, k)}, median (quartiles) of {repeats}: layer and solve_qp in milliseconds, their ratio,")
    print("and how far apart their x are, over its largest entry")
    for batch in (1, 128):
        for gradients in (False, True):
            tensors = [tensor.requires_grad_(gradients) for tensor in random_qps(batch, n, m, k)]
            inputs = dict(zip(("P", "q", "G", "h", "A", "b"), tensors, strict=True))
            through, direct = partial(_variable, layer, x, inputs), partial(_direct, tensors)
            pairs = [(_once(through, gradients), _once(direct, gradients)) for _ in range(repeats)]
            ours, bare, ratios = map(list, zip(*((a, b, a / b) for a, b in pairs), strict=True))
            apart = float((through() - direct()).detach().abs().max() / direct().detach().abs().max())
            kind = "with gradients" if gradients else "forward only"
            print(f"  batch {batch:<4} {kind:<15}{shown(ours):>20}{shown(bare):>20}{shown(ratios):>20}{apart:9.0e}", flush=True)


def _variable(layer: kr.Layer, x: kr.Variable, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    solution: kr.Solution = layer(**inputs)
    return solution[x]


def _direct(tensors: list[torch.Tensor]) -> torch.Tensor:
    return kr.solve_qp(*tensors).x


def _once(solve: Callable[[], torch.Tensor], gradients: bool) -> float:
    start = now()
    value = solve()
    if gradients:
        value.sum().backward()
    return 1e3 * (now() - start)


def main(repeats: int) -> None:
    print(f"torch {torch.__version__}, {told()}")
    compiling(repeats)
    calling(repeats)


if __name__ == "__main__":
    main(15)
