"""What Python can write of an expression or a constraint, and no model can mean: every such operator says so, and what to write.

The work is done in ``usage``; here stands which operators arrive there.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from . import usage
from .elsewhere import OF_CONSTRAINTS, OF_EXPRESSIONS
from .span import asked_by


class Refused:
    """Operators that have no meaning for an expression."""

    __slots__ = ()

    def __lt__(self: Any, other: Any) -> NoReturn:
        raise usage.strict("<", self)

    def __gt__(self: Any, other: Any) -> NoReturn:
        raise usage.strict(">", self)

    def __ne__(self: Any, other: object) -> NoReturn:
        raise usage.unequal(self)

    def __mod__(self: Any, other: Any) -> NoReturn:
        raise usage.modulo("%", self)

    def __rmod__(self: Any, other: Any) -> NoReturn:
        raise usage.modulo("%", self)

    def __floordiv__(self: Any, other: Any) -> NoReturn:
        raise usage.modulo("//", self)

    def __rfloordiv__(self: Any, other: Any) -> NoReturn:
        raise usage.modulo("//", self)

    def __rpow__(self: Any, base: Any) -> NoReturn:
        raise usage.exponent(self, base)

    def __bool__(self: Any) -> NoReturn:
        raise usage.truth(self)

    def __float__(self: Any) -> NoReturn:
        raise usage.number(self)

    def __int__(self: Any) -> NoReturn:
        raise usage.number(self, "int")

    def __round__(self: Any, digits: int = 0) -> NoReturn:
        raise usage.modulo("round", self)

    def __floor__(self: Any) -> NoReturn:
        raise usage.modulo("floor", self)

    def __ceil__(self: Any) -> NoReturn:
        raise usage.modulo("ceil", self)

    def __setitem__(self: Any, key: Any, value: Any) -> NoReturn:
        raise usage.assignment(self)

    def __array__(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Numbers there are none. SciPy's sparse matrices leave A @ x to us if they see a single object."""
        if not asked_by("scipy.sparse"):
            raise usage.array(self)
        whole = np.empty((), dtype=object)
        whole[()] = self
        return whole

    def __array_function__(self: Any, function: Any, *rest: Any) -> NoReturn:
        raise usage.numpy(getattr(function, "__name__", "function"), self)

    def __getattr__(self: Any, name: str) -> NoReturn:
        if name in OF_EXPRESSIONS:
            raise usage.attribute(self, name, OF_EXPRESSIONS[name])
        raise AttributeError(f"an expression has no attribute {name!r}", name=name, obj=self)

    @property
    def value(self: Any) -> Any:
        """Refused: a solution has it."""
        raise usage.attribute(self, "value", OF_EXPRESSIONS["value"])

    @value.setter
    def value(self: Any, given: Any) -> NoReturn:
        raise usage.stored(self)

    def __lshift__(self: Any, other: Any) -> NoReturn:
        raise usage.semidefinite("<<", self)

    def __rshift__(self: Any, other: Any) -> NoReturn:
        raise usage.semidefinite(">>", self)

    __rlshift__, __rrshift__ = __rshift__, __lshift__


class Statement:
    """Arithmetic and logic that have no meaning for a constraint."""

    def __getattr__(self: Any, name: str) -> NoReturn:
        if name in OF_CONSTRAINTS:
            raise usage.of_statement(self, name, OF_CONSTRAINTS[name])
        raise AttributeError(f"a constraint has no attribute {name!r}", name=name, obj=self)

    def __bool__(self: Any) -> NoReturn:
        raise usage.condition(self)

    def __and__(self: Any, other: Any) -> NoReturn:
        raise usage.joined(self, "&")

    def __or__(self: Any, other: Any) -> NoReturn:
        raise usage.joined(self, "|")

    def __add__(self: Any, other: Any) -> NoReturn:
        raise usage.inside(self)

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = __truediv__ = __add__

    def __neg__(self: Any) -> NoReturn:
        raise usage.inside(self)
