"""Matrix expressions of sympy. Inside, everything is two-dimensional, as it is for sympy; columns become vectors at the door.

A product with variables in two factors is a quadratic form if it is its own transpose: factors that mirror each other are taken off
from both ends, F1 F2 C F2' F1', until the variables are in what was taken off. With r = F2' F1' that is r'Cr, or |r|² without C.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import sympy
from sympy.matrices.expressions.applyfunc import ElementwiseApplyFunction
from sympy.matrices.expressions.diagonal import DiagMatrix, DiagonalMatrix
from sympy.matrices.expressions.slice import MatrixSlice

from . import functions as kr
from .diagnostics import DCPError
from .expression import Constant, Expression
from .sympy_leaves import Leaves

sp: Any = sympy  # it carries no types


class Matrices(ABC):
    """The part of the reader that knows matrices; scalars are read by ``Terms``."""

    leaves: Leaves
    matrix_facts: Mapping[Any, tuple[str, ...]]

    @abstractmethod
    def scalar(self, given: Any) -> Expression: ...

    @abstractmethod
    def refuse(self, title: str, term: Any, why: str, mend: str = "", code: str = "X03") -> DCPError: ...

    @abstractmethod
    def matrix_varies(self, given: Any) -> bool: ...

    def entry(self, asked: Any) -> Expression:
        """An entry, trace or determinant of a matrix expression."""
        if isinstance(asked, sp.Trace):
            return self._trace(asked.arg)
        if isinstance(asked, sp.Determinant):
            raise self.refuse("a determinant", asked, "karush has no atom for it", "make its value a parameter of its own")
        parent, *at = map(sp.sympify, asked.args)
        if not all(index.is_Integer for index in at):
            raise self.refuse(f"the entry {asked}", asked, "its indices are not integers", "write the sum out, or use matrices")
        return self.matrix(parent)[tuple(map(int, at))]

    def matrix(self, given: Any) -> Expression:
        """A matrix expression that is affine or piecewise linear in the variables, as an expression of its shape."""
        made = self._matrix(given)
        words = [word for word in self.matrix_facts.get(given, ()) if given not in self.leaves.whole]
        return kr.assume(made, **dict.fromkeys(words, True)) if words else made

    def _matrix(self, given: Any) -> Expression:
        if isinstance(given, sp.MatrixBase):
            return self._written(given)
        shape = tuple(map(int, given.shape)) if all(sp.sympify(size).is_Integer for size in given.shape) else None
        if shape is None:
            raise self.refuse("a matrix of unknown size", given, f"its shape is {given.shape}", "write the sizes as integers")
        if isinstance(given, sp.MatrixSymbol):
            if given not in self.leaves.whole:
                raise self.refuse(f"the matrix {given}", given, "it is neither a variable nor a parameter", "declare it")
            return shaped(self.leaves.whole[given], shape)
        args = given.args
        if isinstance(given, sp.MatAdd):
            return _lifted(lambda *parts: added(list(parts)), *(self.matrix(part) for part in args))
        if isinstance(given, sp.MatMul):
            return self.product(given)
        if isinstance(given, sp.Transpose):
            return _turned(self.matrix(args[0]))
        if isinstance(given, sp.Identity):
            return Constant(np.eye(shape[0]))
        if isinstance(given, sp.ZeroMatrix | sp.OneMatrix):
            return Constant(np.full(shape, float(isinstance(given, sp.OneMatrix))))
        if isinstance(given, sp.HadamardProduct):
            return _lifted(lambda *parts: reduce(operator.mul, parts), *(self.matrix(part) for part in args))
        if isinstance(given, sp.Inverse):
            return kr.inv(self.matrix(args[0]))
        if isinstance(given, sp.MatPow) and args[1].is_Integer:
            return self.product(given) if args[1] > 0 else kr.inv(self.product(sp.MatPow(args[0], -args[1])))
        if isinstance(given, DiagMatrix):
            return kr.diag(shaped(self.matrix(args[0]), (shape[0],)))
        if isinstance(given, DiagonalMatrix):
            made = self.matrix(args[0])
            return made * np.eye(shape[0], shape[1])
        if isinstance(given, sp.BlockMatrix):
            blocks = args[0]
            return kr.concatenate(
                [kr.concatenate([self.matrix(blocks[i, j]) for j in range(blocks.cols)], 1) for i in range(blocks.rows)], 0
            )
        if isinstance(given, MatrixSlice):
            rows, columns = (slice(*map(int, part)) for part in (given.rowslice, given.colslice))
            return self.matrix(given.parent)[rows, columns]
        if isinstance(given, ElementwiseApplyFunction):
            return self._applied(given.function, self.matrix(given.expr))
        raise self.refuse(f"a matrix expression of kind {type(given).__name__}", given, "it has no counterpart here")

    def _written(self, given: Any) -> Expression:
        """An explicit matrix."""
        whole = self.leaves.whole.get(sp.ImmutableMatrix(given))
        if whole is not None:
            return shaped(whole, given.shape)
        if all(entry.is_number for entry in given):
            return Constant(np.array(given.tolist(), dtype=np.float64).reshape(given.shape))
        entries = [self.scalar(entry) for entry in given]
        return shaped(entries[0], (1, 1)) if len(entries) == 1 else kr.stack(entries).reshape(given.shape)

    def _applied(self, function: Any, x: Expression) -> Expression:
        """Abs, and functions of data, entry by entry."""
        if isinstance(function, sp.Lambda):
            (bound,), body = function.variables, function.expr
            name = type(body).__name__ if body.args == (bound,) else ""
        else:
            name = getattr(function, "__name__", "")
        atom = {"Abs": "abs"}.get(name, name)
        if atom not in ("abs", "exp", "log", "sin", "cos", "tanh", "sqrt"):
            raise self.refuse(
                f"{function} applied to a matrix", function, "only Abs, exp, log, sin, cos and tanh are, entry by entry"
            )
        return _lifted(kr.abs if atom == "abs" else getattr(kr, atom), x)

    def product(self, given: Any) -> Expression:
        """A product of matrices and scalars; quadratic forms are recognised."""
        if isinstance(given, sp.MatAdd):
            return _lifted(lambda *parts: added(list(parts)), *(self.product(part) for part in given.args))
        if not isinstance(given, sp.MatMul | sp.MatPow):
            return self.matrix(given)
        scale, factors = _factors(given)
        if sum(self.matrix_varies(factor) for factor in factors) > 1:
            made = self._mirrored(given, factors).reshape((1, 1))
        else:
            made = self._chain(factors)
        return made if scale == 1 else _lifted(lambda part: self.scalar(scale) * part, made)

    def _mirrored(self, given: Any, factors: list[Any]) -> Expression:
        outer, inner = self._mirror(given, factors)
        if tuple(given.shape) != (1, 1):
            raise self.refuse("a matrix that is quadratic in the variables", given, "an objective is a scalar", "take its trace")
        r = self._chain(outer)
        return self._curved(given, shaped(r, r.shape[:1]), inner)

    def _trace(self, given: Any) -> Expression:
        """The trace, also of a quadratic in the variables: |R|² or the sum of forms of the columns of R."""
        if isinstance(given, sp.MatAdd):
            return added([self._trace(part) for part in given.args])
        if isinstance(given, sp.MatMul):
            scale, factors = _factors(given)
            if sum(self.matrix_varies(factor) for factor in factors) > 1:
                outer, inner = self._mirror(given, factors)
                R = self._chain(outer)
                if inner and R.shape[1] > 1:
                    total = added([self._curved(given, R[:, j], inner) for j in range(R.shape[1])])
                else:
                    total = self._curved(given, shaped(R, R.shape[:1]) if R.shape[1] == 1 else R, inner)
                return total if scale == 1 else self.scalar(scale) * total
        return kr.trace(self.matrix(given))

    def _mirror(self, given: Any, factors: list[Any]) -> tuple[list[Any], list[Any]]:
        """The right half of what mirrors itself, and what is left in the middle."""
        taken = 0
        while 2 * taken + 1 < len(factors) and factors[-1 - taken] == sp.Transpose(factors[taken]).doit():
            taken += 1
        inner = factors[taken : len(factors) - taken]
        if not taken or any(self.matrix_varies(factor) for factor in inner):
            why = "a product with variables in two factors is a quadratic form only if it mirrors itself, as x.T*P*x"
            raise self.refuse("a product of two variable expressions", given, why, code="D01")
        return factors[len(factors) - taken :], inner

    def _chain(self, factors: list[Any]) -> Expression:
        """The product from the right, where the vectors are."""
        made = self.matrix(factors[-1])
        for factor in reversed(factors[:-1]):
            made = _times(self.matrix(factor), made)
        return made

    def _curved(self, given: Any, r: Expression, inner: list[Any]) -> Expression:
        """r'Cr, or |r|² without C. Constants are made symmetric; parameters must be known to be definite."""
        if not inner:
            return kr.sum_squares(r)
        whole = inner[0] if len(inner) == 1 else sp.MatMul(*inner)
        C = self.matrix(whole)
        try:
            return kr.quad_form(r, Constant((C.value + C.value.T) / 2) if isinstance(C, Constant) else C)
        except DCPError:
            why = f"{whole} must be symmetric and known to be positive or negative semidefinite"
            mend = f'state it, to be checked at run time: assume={{{whole}: "PSD"}}\nwrite it as F*F.T'
            raise self.refuse("a quadratic form of unknown curvature", given, why, mend, code="D08") from None


def added(parts: list[Expression]) -> Expression:
    """The sum of several expressions of one shape."""
    return reduce(operator.add, parts)


# To sympy a vector is a matrix of one column or row. It is kept as a vector that is only seen as a matrix, so that the model reads,
# and costs, as if it had been written with vectors.


def shaped(expression: Expression, shape: tuple[int, ...]) -> Expression:
    """In another shape; what was only seen in this one is itself again."""
    inner = seen(expression)
    if inner is not None and inner.shape == shape:
        return inner
    return expression if expression.shape == shape else expression.reshape(shape)


def seen(expression: Expression) -> Expression | None:
    """The vector or scalar that is seen as this matrix of one row or column."""
    if isinstance(expression, Constant):
        value = expression.value
        thin = value.ndim == 2 and 1 in value.shape
        return Constant(value.reshape(-1) if value.size != 1 else value.reshape(())) if thin else None
    inner = expression.args[0] if expression.atom is not None and expression.atom.name == "reshape" else None
    return inner if inner is not None and inner.ndim < 2 <= expression.ndim else None


def _lifted(function: Callable[..., Expression], *parts: Expression) -> Expression:
    """An elementwise function, of the vectors behind the parts if they all have one."""
    inner = [seen(part) for part in parts]
    bare = [part for part in inner if part is not None]
    if len(bare) == len(parts) and len({part.shape for part in bare}) == 1:
        return function(*bare).reshape(parts[0].shape)
    return function(*parts)


def _turned(M: Expression) -> Expression:
    inner = seen(M)
    return M.T if inner is None else inner.reshape(M.shape[::-1])


def _times(L: Expression, R: Expression) -> Expression:
    """L @ R, where a row on the left or a column on the right is a vector."""
    row = seen(L) if L.shape[0] == 1 else None
    column = seen(R) if R.shape[1] == 1 else None
    left = L if row is None else row if row.ndim else row.reshape(1)
    right = R if column is None else column if column.ndim else column.reshape(1)
    product = left @ right
    return shaped(product, (L.shape[0], R.shape[1]))


def _factors(given: Any) -> tuple[Any, list[Any]]:
    """The scalar in front, and the matrices, positive powers written out."""
    scale, factors = sp.Integer(1), []
    for part in given.args if isinstance(given, sp.MatMul) else [given]:
        if not getattr(part, "is_Matrix", False):
            scale *= part
        elif isinstance(part, sp.MatPow) and part.args[1].is_Integer and part.args[1] > 0:
            factors += [part.args[0]] * int(part.args[1])
        else:
            factors.append(part)
    return scale, factors
