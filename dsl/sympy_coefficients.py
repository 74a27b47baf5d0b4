"""Expressions without variables: whatever sympy computes of parameters, where karush has an atom for it.

A sign that counts for convexity comes from the rules of karush, from what the user states, or from sympy, whose assumptions may say
more. What karush cannot prove itself is checked per item, like any statement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sympy

from . import functions as kr
from .diagnostics import DCPError
from .expression import Constant, Expression
from .sympy_leaves import brief
from .sympy_matrices import added

sp: Any = sympy  # it carries no types
ROUNDING = 1e-12  # relative: what is smaller in a sum of products of floats is nothing


class Coefficients:
    """Reads coefficients. ``value`` says what a symbol stands for, ``facts`` what is stated, ``refuse`` makes errors."""

    def __init__(
        self, value: Callable[[Any], Expression], facts: Mapping[Any, tuple[str, ...]], refuse: Callable[..., DCPError]
    ) -> None:
        self.value, self.facts, self.refuse = value, facts, refuse

    def sign(self, factor: Any) -> int:
        """1, -1 or, where it is not known, 0: by the rules of karush, by what is stated, or by sympy."""
        known = self.coefficient(factor).sign
        if known.nonneg or known.nonpos:
            return 1 if known.nonneg else -1
        for form in (factor, sp.factor(factor)):
            if form.is_nonnegative or form.is_nonpositive:
                return 1 if form.is_nonnegative else -1
        return 0

    def signed(self, factor: Any, stated: int = 0) -> Expression:
        """A coefficient whose sign counts; where sympy or the user knows more than the rules, it is stated and checked."""
        made = self.coefficient(factor)
        if made.sign.nonneg or made.sign.nonpos:
            return made
        sign = self.sign(factor) or stated
        return kr.assume(made, nonneg=True) if sign > 0 else kr.assume(made, nonpos=True) if sign < 0 else made

    def coefficient(self, term: Any) -> Expression:
        """An expression without variables."""
        made = self._coefficient(term)
        words = [word for word in self.facts.get(term, ()) if word in ("nonneg", "nonpos")]
        return kr.assume(made, **dict.fromkeys(words, True)) if words and not isinstance(made, Constant) else made

    def _coefficient(self, term: Any) -> Expression:
        if term.is_number:
            return Constant(self.number(term))
        if term.is_Symbol:
            return self.value(term)
        args = term.args
        if term.is_Add:
            return added([self.coefficient(part) for part in args])
        if term.is_Mul:
            number, rest = term.as_coeff_Mul()
            over, under = sp.fraction(rest) if number != 1 else sp.fraction(term)
            if under != 1 and not under.is_number:
                return (
                    self.coefficient(number * over) / self.coefficient(under)
                    if number != 1
                    else self.coefficient(over) / self.coefficient(under)
                )
            if number == -1:
                return -self.coefficient(rest)
            made = self.coefficient(args[0])
            for part in args[1:]:
                made = made * self.coefficient(part)
            return made
        if term.is_Pow:
            return self._power(*args)
        for kinds, build in FUNCTIONS.items():
            if isinstance(term, kinds):
                return build(*(self.coefficient(part) for part in args))
        raise self.refuse(
            f"the function {term.func.__name__} of parameters",
            term,
            "karush has no atom for it",
            "make its value a parameter of its own",
        )

    def _power(self, base: Any, exponent: Any) -> Expression:
        if base is sp.E:
            return kr.exp(self.coefficient(exponent))
        if exponent == sp.Rational(1, 2):
            return kr.sqrt(self.coefficient(base))
        if exponent == -sp.Rational(1, 2):
            return 1 / kr.sqrt(self.coefficient(base))
        if exponent.is_number:
            number = self.number(exponent)
            if number < 0:
                return 1 / self._power(base, -exponent)
            return self.coefficient(base) ** (int(number) if number == int(number) else number)
        return kr.exp(self.coefficient(exponent) * kr.log(self.coefficient(base)))

    def number(self, term: Any) -> float:
        if term in (sp.oo, -sp.oo):
            return np.inf if term == sp.oo else -np.inf
        value = complex(term.evalf(17))
        if value.imag or np.isnan(value.real):
            raise self.refuse(f"the number {brief(term)}", term, "it is not real")
        return value.real


FUNCTIONS: dict[Any, Callable[..., Expression]] = {
    sp.exp: kr.exp,
    sp.log: kr.log,
    sp.sin: kr.sin,
    sp.cos: kr.cos,
    sp.tanh: kr.tanh,
    sp.tan: lambda x: kr.sin(x) / kr.cos(x),
    sp.sinh: lambda x: (kr.exp(x) - kr.exp(-x)) / 2,
    sp.cosh: lambda x: (kr.exp(x) + kr.exp(-x)) / 2,
    sp.Abs: kr.abs,
    sp.Max: kr.maximum,
    sp.Min: kr.minimum,
}
