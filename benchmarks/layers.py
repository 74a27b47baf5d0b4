"""Through the language: the same cvxpy problems as layers of karush and of cvxpylayers, forward and backward.

The problems are those of ``cvxpy_models``, read by ``karush.compat.cvxpylayers``, so that parameters and variables are the same
objects. cvxpylayers runs with its default, diffcp with SCS, and with Moreau. The error is the worst of x over a few items, over
its largest entry, against Clarabel at 1e-11 through cvxpy.

`python -m benchmarks.layers`
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import Outputs, interleaved, ratio, spread, step, told
from karush.compat.cvxpylayers import CvxpyLayer

BATCHES = (1, 128)
SHARED = {"mini-Sudoku": (1, 2)}  # parameters that stay one for all items: rules, and right sides that they have solutions for
CHECKED = 3
PATIENCE_S = 1.5

Layer = Callable[..., tuple[Tensor, ...]]


def batched(name: str, item: list[Tensor], batch: int) -> list[Tensor]:
    """Items that differ from one by up to a tenth."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for place, value in enumerate(item):
        if batch > 1 and place not in SHARED.get(name, ()):
            value = value * (0.9 + 0.2 * torch.rand(batch, *value.shape, generator=generator, dtype=value.dtype))
        found.append(value.clone().requires_grad_())
    return found


def contestants(statement: Any) -> dict[str, Layer]:
    """Layers of one problem, ours first."""
    problem, parameters, variables = statement
    found: dict[str, Layer] = {"karush": CvxpyLayer(problem, parameters, variables)}
    if importlib.util.find_spec("cvxpylayers"):
        from cvxpylayers.torch import CvxpyLayer as Original

        found["cvxpylayers"] = Original(problem, parameters=parameters, variables=variables)
        if importlib.util.find_spec("moreau"):
            found["with Moreau"] = Original(problem, parameters=parameters, variables=variables, solver="MOREAU")
    return found


def exact(statement: Any, tensors: list[Tensor], number: int, batch: int) -> list[list[np.ndarray[Any, Any]]]:
    """The variables of the first items by Clarabel."""
    import cvxpy

    problem, parameters, variables = statement
    several = []
    for i in range(min(number, batch)):
        for parameter, tensor in zip(parameters, tensors, strict=True):
            value = tensor.detach().numpy()
            parameter.value = value[i] if value.ndim > len(parameter.shape) else value
        tight = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
        problem.solve(solver=cvxpy.CLARABEL, **tight)
        several.append([np.array(variable.value) for variable in variables])
    return several


def error(found: Outputs, expected: list[list[np.ndarray[Any, Any]]]) -> float:
    several = found if isinstance(found, tuple) else (found,)
    worst = 0.0
    for i, item in enumerate(expected):
        for part, right in zip(several, item, strict=True):
            own = part.detach().numpy()
            own = own[i] if own.ndim > right.ndim else own
            worst = max(worst, float(np.abs(own - right).max() / max(np.abs(right).max(), 1e-300)))
    return worst


def main(repeats: int = 15) -> None:
    from benchmarks.cvxpy_models import STATEMENTS, values

    warnings.filterwarnings("ignore")  # of peers, on which of their solvers they take, and on deprecated arguments
    print(f"\nthrough the language, forward and backward: milliseconds (quartiles), {told()}")
    heads = f"{'karush':>24} {'error':>8}"
    print(f"{'':<14}{'batch':>6}{heads}" + "".join(f"{name:>22} {'':>8}{'error':>9}" for name in ("cvxpylayers", "with Moreau")))
    for name, state in STATEMENTS.items():
        for batch in BATCHES:
            statement = state()
            tensors = batched(name, values(name), batch)
            layers = contestants(statement)
            calls = {who: partial(step, partial(layer, *tensors)) for who, layer in layers.items()}
            steps = interleaved(calls, repeats, PATIENCE_S, partial(_refused, name))
            expected = exact(statement, tensors, CHECKED, batch)
            totals = {who: [one.total for one in several] for who, several in steps.items()}
            line = f"{name:<14}{batch:>6}"
            for who, several in totals.items():
                middle, low, high = spread(several)
                off = error(layers[who](*tensors), expected)
                if who == "karush":
                    line += f"{middle:10.2f} ({low:.2f}-{high:.2f})".rjust(24) + f" {off:8.0e}"
                else:
                    line += (
                        f"{middle:10.2f} ({low:.2f}-{high:.2f})".rjust(22) + f" {ratio(several, totals['karush']):7.1f}x{off:9.0e}"
                    )
            print(line, flush=True)


def _refused(model: str, who: str, error: Exception) -> None:
    print(f"{model}: {who} raises {type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}")


if __name__ == "__main__":
    main()
