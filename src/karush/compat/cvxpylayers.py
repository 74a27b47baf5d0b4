"""A drop-in for cvxpylayers:  ``from karush.compat.cvxpylayers import CvxpyLayer``.

Signature, order of arguments and results, and batching are those of ``cvxpylayers.torch.CvxpyLayer`` 1.2; behind them stands
karush. What is different on purpose stands in the documentation (coming from cvxpylayers). ``Solver`` goes the other way: it puts
karush's engine behind the original layer. Neither cvxpy nor cvxpylayers is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..backends.failure import input_error
from ..backends.from_cvxpy import from_cvxpy
from ..backends.layer import compile
from ..dsl.constraint import Constraint
from ..dsl.diagnostics import DefinitionError, definition_error
from ..dsl.expression import Expression
from .options import read
from .solver import Solver as Solver

Shape = tuple[int, ...]
FOREIGN_BUFFERS = ("P", "q", "A")  # what the original layer keeps in its state_dict


class CvxpyLayer(nn.Module):
    """A cvxpy problem as a layer:  ``(x_star,) = CvxpyLayer(problem, [A, b], [x])(A_tensor, b_tensor)``.

    ``parameters``: exactly those of the problem, in the order of the call. ``variables``: variables of the problem or dual
    variables of its constraints (``constraint.dual_variables[0]``), in the order of the results. ``solver``, ``canon_backend`` and
    ``verbose`` choose what karush does not have and are accepted; ``gp=True`` is refused. ``solver_args``: options of every call,
    see ``forward``.

    The problem need not be DPP: any function of parameters is a coefficient. A problem that is no quadratic program raises DCPError
    naming the atom. ``compiled`` is the ``karush.Layer`` behind it. All errors about arguments are ValueErrors.
    """

    def __init__(
        self,
        problem: Any,
        parameters: Any,
        variables: Any,
        solver: Any = None,
        gp: bool = False,
        verbose: bool = False,
        canon_backend: str | None = None,
        solver_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if gp:
            raise _refused("gp=True", "a geometric program is no quadratic program", "keep cvxpylayers for this layer")
        if not isinstance(solver, str | None):
            why = f"expected a name or None, got {type(solver).__name__}"
            raise _refused("a solver object", why, "leave solver out; a SolverInterface belongs into cvxpylayers' own layer")
        for name, given in (("parameters", parameters), ("variables", variables)):
            if not isinstance(given, list | tuple):
                raise _refused(name, f"expected a list or tuple, got {type(given).__name__}", f"write {name}=[...]")
        self._defaults = read(solver_args)
        imported = from_cvxpy(problem)
        _check_parameters(problem, parameters)
        _check_variables(problem, variables)
        names = imported.problem.names
        self._declared = tuple((parameter.name(), tuple(parameter.shape)) for parameter in parameters)
        # None: a parameter that vanished on the way, such as one that only stands in an empty slice. It is checked, then ignored.
        self._inputs = tuple(names.get(imported[parameter].key) for parameter in parameters)
        constraints = {constraint.key: name for name, constraint in imported.problem.constraints.items()}
        found = [imported[variable] for variable in variables]
        self._outputs: tuple[Expression | str, ...] = tuple(constraints[o.key] if isinstance(o, Constraint) else o for o in found)
        self.compiled = compile(imported.problem)

    def forward(
        self, *params: Tensor, solver_args: Mapping[str, Any] | None = None, warm_start: bool = False
    ) -> tuple[Tensor, ...]:
        """Solve; one tensor for each of ``variables``, of shape (B, *shape), or of the variable's own shape if nothing has a batch.

        Each tensor has the exact shape of its parameter or one leading batch dimension; those without are shared, and their
        gradient is the sum over the batch. ``solver_args``: ``eps max_iter on_failure accept regularize``; tolerances named as in
        SCS, Clarabel or diffcp become ``eps``, their other options are accepted without effect. ``warm_start`` is accepted: karush
        starts anew, to the same solution. Results carry the dtype of the tensors. Raises InputError (a ValueError) and SolveError.
        """
        _check_tensors(params, self._declared)
        given = {name: tensor for name, tensor in zip(self._inputs, params, strict=True) if name is not None}
        solution = self.compiled.solve(given, **{**self._defaults, **read(solver_args)})
        return tuple(solution.dual(o) if isinstance(o, str) else solution[o] for o in self._outputs)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}{shape}" for name, shape in self._declared)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Checkpoints written with cvxpylayers load: what its buffers hold is known from the problem."""
        for name in FOREIGN_BUFFERS:
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _check_parameters(problem: Any, parameters: Sequence[Any]) -> None:
    wanted = {parameter.id: parameter.name() for parameter in problem.parameters()}
    ids = [getattr(parameter, "id", None) for parameter in parameters]
    if set(ids) != set(wanted) or len(ids) != len(wanted):
        why = f"the layer's parameters must exactly match problem.parameters(), each once: {', '.join(wanted.values()) or 'none'}"
        missing = [name for key, name in wanted.items() if key not in ids]
        raise _refused(
            "parameters", why, f"add {', '.join(missing)}" if missing else "leave out what does not occur in the problem"
        )


def _check_variables(problem: Any, variables: Sequence[Any]) -> None:
    known = {v.id for v in problem.variables()} | {v.id for c in problem.constraints for v in c.dual_variables}
    strange = [v for v in variables if getattr(v, "id", None) not in known]
    if strange:
        why = f"{strange[0]} must be a subset of problem.variables() or a dual variable of one of its constraints"
        raise _refused("variables", why, "ask for constraint.dual_variables[0] of a constraint that is in the problem")


def _check_tensors(tensors: Sequence[Any], declared: Sequence[tuple[str, Shape]]) -> None:
    """Each tensor has its parameter's exact shape or one batch dimension more, and all batches are equal."""
    if len(tensors) != len(declared):
        title = f"A tensor must be provided for each parameter: expected {len(declared)}, got {len(tensors)}"
        raise input_error(
            "I02", title, f"the parameters are {', '.join(name for name, _ in declared) or 'none'}", "pass all, in this order"
        )
    why = "a tensor has the exact shape of its parameter, or one batch dimension in front"
    sizes: dict[str, int] = {}
    for (name, shape), tensor in zip(declared, tensors, strict=True):
        if not isinstance(tensor, Tensor):
            raise input_error(
                "I09", f"parameter {name}: expected a tensor, got {type(tensor).__name__}", why, "torch.as_tensor makes one"
            )
        got = tuple(tensor.shape)
        lead = len(got) - len(shape)
        wrong = "dimensionality" if lead not in (0, 1) else "shape" if got[lead:] != shape else ""
        if wrong:
            title = f"Invalid parameter {wrong} of {name}: expected {shape} behind at most one batch dimension, got {got}"
            raise input_error("I05", title, why, "the layer in .compiled takes any number of batch dimensions")
        if lead:
            sizes[name] = got[0]
    if len(set(sizes.values())) > 1:
        title = f"Inconsistent batch sizes: {', '.join(f'{name} {size}' for name, size in sizes.items())}"
        raise input_error("I06", title, "all batched tensors have one and the same batch size", "leave what is shared without one")


def _refused(what: str, why: str, mend: str) -> DefinitionError:
    return definition_error("X05", f"CvxpyLayer cannot take {what}", why, mend)
