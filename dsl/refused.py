"""What Python can write of an expression or a constraint, and no model can mean: every such operator says so, and what to write.

The work is done in ``usage``; here stands which operators arrive there.
"""

from __future__ import annotations

from typing import Any, NoReturn

from . import usage

# What users of other libraries look for on an expression, and where it is here.
ELSEWHERE = {
    "value": "a solution has it: solution[{0}]",
    "grad": "gradients flow into the tensors that were passed in",
    "dual_value": "a solution has it: solution.dual(constraint)",
    "item": "a solution has it: solution[{0}].item()",
    "numpy": "a solution has it: solution[{0}].numpy()",
    "detach": "a solution has it: solution[{0}].detach()",
    "std": "of variables it is a second-order cone; its square is quadratic: {0}.var()\nof data write kr.std({0})",
    "prod": "of variables a product is not convex\nof data write kr.prod({0})",
    "dot": "write {0} @ other",
    "norm": 'write kr.norm({0}, 1), kr.norm({0}, "inf") or kr.norm({0})**2',
}


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

    def __array__(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise usage.array(self)

    def __array_function__(self: Any, function: Any, *rest: Any) -> NoReturn:
        raise usage.numpy(getattr(function, "__name__", "function"), self)

    def __getattr__(self: Any, name: str) -> NoReturn:
        if name in ELSEWHERE:
            raise usage.attribute(self, name, ELSEWHERE[name])
        raise AttributeError(f"an expression has no attribute {name!r}", name=name, obj=self)


class Statement:
    """Arithmetic and logic that have no meaning for a constraint."""

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
