"""Large sparse models, forward and backward, beside the single-problem solvers: one problem at a time, all at eps 1e-8.

Everybody solves the same matrices, those of the compiled layer. The layer's time is that of a whole call, parameters in and
solution out; the others get their matrices ready made, and their time is set-up and solve, which is what new values cost them.
Processor time of one thread each. The residual is ours (docs/conventions.md), recomputed from what each returns, primal and dual;
"backward" is the gradient of a sum of x in all parameters, and its share of the forward time.

`PYTHONPATH=tests python -m benchmarks sparse`: the models are those of the tests.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

import karush as kr
from karush.backends.sparse.data import SparseData
from karush.backends.sparse.find import finite_item
from karush.backends.sparse.item import Floats, Item
from karush.backends.sparse.residuals import Measure, Point
from sparse.models import Model, control, denoising, factor_portfolio, scattered

EPS = 1e-8
REPEATS = 5
PATIENCE_S = 60.0


class Answer(NamedTuple):
    """A solver's word, its point, iterations, and seconds."""

    said: str
    point: Point
    iterations: int
    seconds: float


class Matrices(NamedTuple):
    """One item as SciPy's matrices."""

    item: Item
    Q: Any
    A: Any
    G: Any

    @staticmethod
    def of(data: SparseData) -> Matrices:
        item, s = finite_item(data, 0), data.structure
        W = item.W_matrix.tocsc()
        return Matrices(item, item.Q_matrix.tocsc(), W[: s.k].tocsc(), W[s.k :].tocsc())

    def bounds_as_rows(self) -> tuple[Any, Floats]:
        """G and h with bounds below: upper ones, then lower ones."""
        eye, item = sp.eye_array(self.item.structure.n, format="csr"), self.item
        rows = [self.G, eye[item.upper], -eye[item.lower]]
        return sp.vstack(rows).tocsc(), np.concatenate([item.rhs[self.k :], item.ub[item.upper], -item.lb[item.lower]])

    @property
    def k(self) -> int:
        return self.item.structure.k

    def point(self, x: Floats, y: Floats, z: Floats) -> Point:
        """With z of the rows of ``bounds_as_rows``."""
        item, m, n = self.item, self.item.structure.m, self.item.structure.n
        z_lb, z_ub = np.zeros(n), np.zeros(n)
        upper = len(item.upper)
        z_ub[item.upper], z_lb[item.lower] = z[m : m + upper], z[m + upper :]
        return Point(x, np.concatenate([y, z[:m]]), z_lb, z_ub)


def clarabel_solver(given: Matrices) -> Answer:
    import clarabel

    G, h = given.bounds_as_rows()
    C, c = sp.vstack([given.A, G]).tocsc(), np.concatenate([given.item.rhs[: given.k], h])
    P = sp.triu(given.Q).tocsc()
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = EPS
    cones = [cone(size) for cone, size in ((clarabel.ZeroConeT, given.k), (clarabel.NonnegativeConeT, len(h))) if size]
    start = time.process_time()
    found = clarabel.DefaultSolver(P, given.item.p, C, c, cones, settings).solve()
    seconds = time.process_time() - start
    z = np.array(found.z)
    return Answer(str(found.status), given.point(np.array(found.x), z[: given.k], z[given.k :]), found.iterations, seconds)


def piqp(given: Matrices) -> Answer:
    import piqp as library

    item, k = given.item, given.k
    solver = library.SparseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = EPS
    solver.settings.check_duality_gap = True
    solver.settings.eps_duality_gap_abs = solver.settings.eps_duality_gap_rel = EPS
    low = np.full(item.structure.m, -np.inf)
    start = time.process_time()
    solver.setup(given.Q, item.p, given.A, item.rhs[:k], given.G, low, item.rhs[k:], item.lb, item.ub)
    status = solver.solve()
    seconds = time.process_time() - start
    r = solver.result
    z_lb, z_ub = (np.where(np.isfinite(bound), part, 0) for bound, part in ((item.lb, r.z_bl), (item.ub, r.z_bu)))
    point = Point(np.array(r.x), np.concatenate([r.y, r.z_u]), z_lb, z_ub)
    return Answer(status.name, point, r.info.iter, seconds)


def osqp(given: Matrices) -> Answer:
    import osqp as library

    item, k = given.item, given.k
    G, h = given.bounds_as_rows()
    C, low = sp.vstack([given.A, G]).tocsc(), np.concatenate([item.rhs[:k], np.full(len(h), -np.inf)])
    P = sp.triu(given.Q).tocsc()
    options = {"eps_abs": EPS, "eps_rel": EPS, "max_iter": 1_000_000, "time_limit": PATIENCE_S, "verbose": False}
    solver = library.OSQP()
    P, C = sp.csc_matrix(P), sp.csc_matrix(C)  # it warns of arrays, and converts them
    start = time.process_time()
    solver.setup(P, item.p, C, low, np.concatenate([item.rhs[:k], h]), **options)
    found = solver.solve()
    seconds = time.process_time() - start
    point = given.point(np.array(found.x), found.y[:k], np.maximum(found.y[k:], 0))
    return Answer(found.info.status, point, found.info.iter, seconds)


SOLVERS: dict[str, tuple[str, Callable[[Matrices], Answer]]] = {
    "Clarabel": ("clarabel", clarabel_solver),
    "PIQP": ("piqp", piqp),
    "OSQP": ("osqp", osqp),
}

CASES: dict[str, Callable[[], Model]] = {
    "factor portfolio": lambda: factor_portfolio(10_000, 100),
    "control": lambda: control(455, 20),
    "denoising": lambda: denoising(5_000),
    "scattered": lambda: scattered(10_000),
}
SOLVES_IN_TIME = {("scattered", "PIQP"): "more than a minute"}  # its ordering fills in: left out


def layer_times(layer: Any, values: dict[str, torch.Tensor]) -> tuple[kr.Solution, float, float]:
    """A solution, and median seconds of forward and backward."""
    forward, backward = [], []
    for _ in range(REPEATS + 1):
        leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
        start = time.process_time()
        solution = layer(leaves)
        total = torch.stack([solution[v.name].sum() for v in solution.context.qp.variables]).sum()
        between = time.process_time()
        total.backward()
        backward.append(time.process_time() - between)
        forward.append(between - start)
    return solution, statistics.median(forward[1:]), statistics.median(backward[1:])


def singles() -> None:
    title = f"{'':<18}{'':<10}{'forward':>10}{'ratio':>7}{'iterations':>11}{'residual':>10}  {'':<24}{'backward':>9}"
    print(title)
    for name, make in CASES.items():
        problem, values = make()
        start = time.process_time()
        layer = kr.compile(problem)
        layer(values)
        first = time.process_time() - start
        solution, forward, backward = layer_times(layer, values)
        assert isinstance(solution.data, SparseData)
        given = Matrices.of(solution.data)
        n, m, k = solution.data.sizes
        told = f"n = {n}, m = {m}, k = {k}"
        worst, share = float(solution.residuals.worst), f"{1e3 * backward:.1f} ms, {100 * backward / forward:.0f} %"
        print(
            f"{name:<18}{'karush':<10}{1e3 * forward:>7.1f} ms{1:>7.2f}{int(solution.iterations):>11}{worst:>10.0e}  "
            f"{kr.Status(int(solution.status)).name:<24}{share:>9}   {told}; compiled and first call {first:.2f} s",
            flush=True,
        )
        for peer, (package, solve) in SOLVERS.items():
            if importlib.util.find_spec(package) is None:
                print(f"{'':<18}{peer:<10}not installed")
                continue
            if (name, peer) in SOLVES_IN_TIME:
                print(f"{'':<18}{peer:<10}{SOLVES_IN_TIME[name, peer]}")
                continue
            answers = [solve(given)]
            answers += [solve(given) for _ in range(REPEATS - 1) if answers[0].seconds < 5]
            seconds, last = statistics.median(answer.seconds for answer in answers), answers[-1]
            worst = Measure(given.item).residuals(last.point, Measure(given.item).plain).worst
            times = f"{1e3 * seconds:>7.1f} ms{seconds / forward:>7.2f}{last.iterations:>11}"
            print(f"{'':<18}{peer:<10}{times}{worst:>10.0e}  {last.said}", flush=True)


def batches() -> None:
    """A batch of mid-size problems, one analysis for all, beside Clarabel and PIQP one by one."""
    print("\nbatches of 32, per item; 'dense' is the same layer with backend=\"cpu\"")
    cases = {"control": control(60, 10), "denoising": denoising(500), "factor portfolio": factor_portfolio(1_000, 40)}
    for name, (problem, values) in cases.items():
        size = 32
        first = next(iter(values))
        many = values | {
            first: values[first] * torch.linspace(0.9, 1, size, dtype=torch.float64).reshape(-1, *[1] * values[first].dim())
        }
        solution, forward, backward = layer_times(kr.compile(problem), many)
        assert isinstance(solution.data, SparseData)
        _, dense, _ = layer_times(
            kr.compile(problem, backend="cpu"), {key: v[:2] if key == first else v for key, v in many.items()}
        )
        given = Matrices.of(solution.data)
        peers = {peer: solve(given).seconds for peer, (package, solve) in SOLVERS.items() if importlib.util.find_spec(package)}
        beside = ", ".join(f"{peer} {1e3 * seconds:.2f}" for peer, seconds in peers.items())
        n, m, k = solution.data.sizes
        own = f"karush {1e3 * forward / size:.2f} ms and {1e3 * backward / size:.2f} back, dense {1e3 * dense / 2:.1f}"
        told = f"n = {n}, m = {m}, k = {k}, worst residual {float(solution.residuals.worst.max()):.0e}"
        print(f"{name:<18}{own}, {beside}; {told}", flush=True)


def main() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        singles()
        batches()
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
