"""Expressions of sympy in karush's language: coefficients, affine and piecewise-linear terms, quadratics, matrices.

What is written as a square or a norm stays one, so that the rules of convexity see what the user saw. Products of variables have no
atom of their own: all quadratic terms of a sum are then gathered into one form x'Hx / 2, and ``sympy_quadratic`` decides about H.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import sympy
from sympy.matrices.expressions.matexpr import MatrixElement

from . import functions as kr
from . import sympy_quadratic as quadratic
from .curvature import Form
from .diagnostics import DCPError, Diagnostic
from .expression import Constant, Expression
from .span import calling
from .sympy_coefficients import ROUNDING, Coefficients
from .sympy_leaves import Leaves, atoms, brief
from .sympy_matrices import Matrices, added, shaped

sp: Any = sympy  # it carries no types


class Terms(Matrices):
    """Reads expressions over the leaves of one problem. ``facts`` are what the user states, by expression."""

    def __init__(self, leaves: Leaves, facts: Mapping[Any, tuple[str, ...]]) -> None:
        self.leaves, self.place = leaves, ""
        self._opaque: dict[Any, Any] = {}  # stand-ins of matrix entries and traces, by themselves
        self._facts = {self.stand_in(key): words for key, words in facts.items() if not getattr(key, "is_Matrix", False)}
        self.data = Coefficients(self.value, self._facts, self.refuse)
        self.matrix_facts = {key: words for key, words in facts.items() if getattr(key, "is_Matrix", False)}

    # Doors

    def expression(self, given: Any, place: str) -> Expression:
        """Any scalar or matrix expression; columns become vectors, 1 x 1 matrices scalars."""
        self.place = place
        if getattr(given, "is_Matrix", False):
            made = self.product(given) if given.shape == (1, 1) else self.matrix(given)
            return shaped(made, () if made.shape == (1, 1) else made.shape[:1]) if made.ndim == 2 and made.shape[1] == 1 else made
        return self.scalar(given)

    def refuse(self, title: str, term: Any, why: str, mend: str = "", code: str = "X03") -> DCPError:
        """What a quadratic program cannot represent."""
        mend = mend or "write it with affine, piecewise-linear and quadratic terms, or pass its value as a parameter"
        return DCPError(Diagnostic(code, title, calling(), brief(self.named(term)), f"in {self.place}", why, mend))

    def named(self, term: Any) -> Any:
        """With the user's symbols in place of ours."""
        back = {ours: theirs for theirs, ours in [*self.leaves.entries.items(), *self._opaque.items()]}
        return term.xreplace(back) if isinstance(term, sp.Basic) else term

    # Scalars

    def stand_in(self, given: Any) -> Any:
        """With real stand-ins for the entries of leaves, and for what only matrices can compute."""
        given = sp.sympify(given, strict=True)
        given = given.replace(lambda e: isinstance(e, sp.Sum | sp.Product), lambda e: e.doit())
        given = given.replace(lambda e: e.is_Pow and e.exp.is_Float and float(e.exp).is_integer(), lambda e: e.base ** int(e.exp))
        table: dict[Any, Any] = {}
        stack = [given]
        while stack:
            node = stack.pop()
            if node in self.leaves.entries:
                table[node] = self.leaves.entries[node]
            elif isinstance(node, MatrixElement | sp.Trace | sp.Determinant):
                if node not in self._opaque:
                    self._opaque[node] = sp.Dummy(str(node), real=True)
                table[node] = self._opaque[node]
            elif isinstance(node, sp.Indexed):
                why = f"the shape of {node.base} is {node.shape}"
                raise self.refuse(f"the entry {brief(node)}", node, why, "index it by integers within its shape")
            else:
                stack += node.args
        return given.xreplace(table)

    def scalar(self, given: Any) -> Expression:
        """A scalar expression as the user gave it."""
        return self.terms(self.stand_in(given))

    def value(self, stand_in: Any) -> Expression:
        """What a stand-in stands for."""
        known = self.leaves.of.get(stand_in)
        if known is not None:
            return known
        asked = next((theirs for theirs, ours in self._opaque.items() if ours == stand_in), None)
        if asked is None:
            mend = "declare it among variables= or parameters="
            raise self.refuse(f"the symbol {stand_in}", stand_in, "it is neither a variable nor a parameter", mend)
        return self.entry(asked)

    def varies(self, term: Any) -> bool:
        """Whether variables occur."""
        return any(self._variable(symbol) for symbol in term.free_symbols)

    def _variable(self, symbol: Any) -> bool:
        if symbol in self.leaves.variables:
            return True
        asked = next((theirs for theirs, ours in self._opaque.items() if ours == symbol), None)
        return asked is not None and self.matrix_varies(asked)

    def matrix_varies(self, given: Any) -> bool:
        """Whether variables occur in an expression with the user's own symbols."""
        return any(
            getattr(self.leaves.whole.get(atom), "form", Form.CONSTANT) is not Form.CONSTANT
            or self.leaves.entries.get(atom) in self.leaves.variables
            for atom in atoms(given)
        )

    def degree(self, term: Any) -> int | None:
        """The degree in variables as written; None where the term is no polynomial of them."""
        if not self.varies(term):
            return 0
        if term.is_Symbol:
            return 1 if term in self.leaves.variables else None
        if term.is_Add or term.is_Mul:
            degrees = [self.degree(part) for part in term.args]
            known = [degree for degree in degrees if degree is not None]
            return None if len(known) < len(degrees) else max(known) if term.is_Add else sum(known)
        if term.is_Pow and term.exp.is_Integer and term.exp > 0:
            base = self.degree(term.base)
            return None if base is None else base * int(term.exp)
        return None

    def terms(self, term: Any) -> Expression:
        """A sum, term by term; quadratic terms together."""
        if not self.varies(term):
            return self.data.coefficient(term)
        stated = self._convexity(term)
        flat: list[Any] = []
        curved: list[Any] = []
        other: list[Any] = []
        for part in sp.Add.make_args(term):
            degree = self.degree(part)
            (other if degree is None else flat if degree < 2 else curved).append(part)
        found: list[Expression] = []
        if curved:
            linear, forms = self._quadratics(curved, stated)
            flat.append(linear)
            found += forms
        if flat and (rest := sp.Add(*flat)) != 0:
            found.insert(0, self.affine(rest))
        ranges = [part for part in other if isinstance(part, sp.Max) and -sp.Min(*part.args) in other]  # known to be nonnegative
        found += [kr.ptp(kr.stack(self._each(part))) for part in ranges]
        spent = {*ranges, *(-sp.Min(*part.args) for part in ranges)}
        found += [self._term(part) for part in other if part not in spent]
        return added(found) if len(found) > 1 else found[0] if found else Constant(0.0)

    def _each(self, term: Any) -> list[Expression]:
        """The arguments of a maximum or minimum."""
        return [self.terms(part) for part in sorted(term.args, key=sp.default_sort_key)]

    def _term(self, term: Any) -> Expression:
        """A term that is no polynomial."""
        if term.is_Symbol:
            return self.value(term)
        if term.is_Mul:
            data = [part for part in term.args if not self.varies(part)]
            rest = [part for part in term.args if self.varies(part)]
            if len(rest) > 1:
                why = "a product is affine only if one factor is free of variables"
                raise self.refuse("a product of two variable expressions", term, why, code="D01")
            return self._weighed(sp.Mul(*data), self.terms(rest[0]), term)
        if term.is_Pow and term.exp == 2:
            return kr.square(self.terms(term.base))
        if isinstance(term, sp.Abs):
            return kr.abs(self.terms(term.args[0]))
        if isinstance(term, sp.Max | sp.Min):
            parts = self._each(term)
            return kr.maximum(*parts) if isinstance(term, sp.Max) else kr.minimum(*parts)
        if isinstance(term, sp.Piecewise) and (pair := _huber(term)) is not None:
            return kr.huber(self.terms(pair[0]), self.data.coefficient(pair[1]))
        if term.is_Add:
            return self.terms(term)
        symbol = next(symbol for symbol in sorted(term.free_symbols, key=str) if self._variable(symbol))
        symbol, asked = self.named(symbol), term
        term = self.named(term)
        what = f"{symbol} to the power {term.exp}" if term.is_Pow and term.base == symbol else f"{term.func.__name__} of {symbol}"
        why = "a quadratic program is built of affine terms, squares, Abs, Max and Min of the variables"
        raise self.refuse(what, asked, why, "if it is data, list the symbol among parameters=")

    # Affine terms

    def affine(self, term: Any) -> Expression:
        """A polynomial of degree one: a product with each leaf, plus a coefficient."""
        slopes, constant = self._slopes(term)
        found: list[Expression] = []
        by_leaf: dict[int, list[Any]] = {}
        for symbol in slopes:
            by_leaf.setdefault(id(self.leaves.place[symbol][0]), []).append(symbol)
        for symbols in by_leaf.values():
            leaf = self.leaves.place[symbols[0]][0]
            if len(symbols) > 1 and len(symbols) == leaf.size and leaf.ndim == 1:
                ordered = sorted(symbols, key=lambda symbol: self.leaves.place[symbol][1])
                found.append(self._vector([slopes[symbol] for symbol in ordered]) @ leaf)
            else:
                found += [self._scaled(slopes[symbol], self.value(symbol)) for symbol in symbols]
        if constant != 0 or not found:
            found.append(self.data.coefficient(constant))
        return added(found) if len(found) > 1 else found[0]

    def _slopes(self, term: Any) -> tuple[dict[Any, Any], Any]:
        """Coefficients of the variables, and what is left."""
        slopes: dict[Any, Any] = {}
        constant, stack = sp.Integer(0), [(term, sp.Integer(1))]
        while stack:
            part, factor = stack.pop()
            if not self.varies(part):
                constant += factor * part
            elif part.is_Symbol:
                slopes[part] = slopes.get(part, 0) + factor
            elif part.is_Add:
                stack += [(inner, factor) for inner in reversed(part.args)]
            else:  # a product, or a first power
                data = [inner for inner in part.args if not self.varies(inner)]
                rest = [inner for inner in part.args if self.varies(inner)]
                stack.append((rest[0], factor * sp.Mul(*data)))
        return {symbol: slope for symbol, slope in slopes.items() if slope != 0}, constant

    def _vector(self, entries: list[Any]) -> Expression:
        if all(entry.is_number for entry in entries):
            return Constant([self.data.number(entry) for entry in entries])
        return kr.stack([self.data.coefficient(entry) for entry in entries])

    def _scaled(self, factor: Any, expression: Expression) -> Expression:
        return expression if factor == 1 else -expression if factor == -1 else self.data.coefficient(factor) * expression

    # Quadratic terms

    def _quadratics(self, terms: list[Any], stated: int) -> tuple[Any, list[Expression]]:
        """What is left of degree one, and quadratic expressions."""
        squares = [self._square(term) for term in terms]
        known = [square for square in squares if square is not None]
        signs = {self.data.sign(factor) for factor, _ in known}
        if len(known) == len(squares) and len(signs) == 1 and 0 not in signs:
            return sp.Integer(0), [self._squared(*square) for square in known]
        symbols = sorted(
            {s for term in terms for s in term.free_symbols if s in self.leaves.variables}, key=lambda s: self._order(s)
        )
        total = self._monomials(sp.Add(*terms))
        worst = max(total, key=len, default=())
        if len(worst) > 2:
            monomial = sp.Mul(*worst)
            why = f"its degree in the variables is {len(worst)}; a quadratic program ends at 2"
            raise self.refuse(f"the term {self.named(monomial)}", monomial, why)
        linear = sp.Integer(0)
        place = {symbol: index for index, symbol in enumerate(symbols)}
        H = sp.zeros(len(symbols), len(symbols))
        for monomial, coefficient in total.items():
            if len(monomial) < 2:
                linear += coefficient * sp.Mul(*monomial)
            else:
                i, j = (place[symbol] for symbol in monomial)
                H[i, j] += coefficient
                H[j, i] += coefficient
        # Coefficients that only rounding left are none.
        size = max((abs(float(entry)) for entry in H if entry.is_number), default=0.0)
        H = H.applyfunc(lambda entry: sp.Integer(0) if entry.is_number and abs(float(entry)) <= ROUNDING * size else entry)
        used = [index for index in range(len(symbols)) if any(entry != 0 for entry in H[index, :])]
        H, symbols = H.extract(used, used), [symbols[index] for index in used]
        if not used:
            return linear, []
        try:
            return linear, [
                form
                for rows in quadratic.parts(H)
                for form in self._form(H.extract(rows, rows), [symbols[i] for i in rows], stated)
            ]
        except DCPError:
            if len(known) == len(squares) and not stated:  # the rules say which coefficient's sign is missing
                return sp.Integer(0), [self._squared(*square) for square in known]
            raise

    def _monomials(self, term: Any) -> dict[tuple[Any, ...], Any]:
        """A polynomial: its coefficients, by their variables, each as often as its power.

        Coefficients are multiplied out only where that is little work: entries of an inverse would fill memory.
        """
        if not self.varies(term):
            return {(): term}
        if term.is_Symbol:
            return {(term,): sp.Integer(1)}
        if term.is_Add:
            parts = [list(self._monomials(part).items()) for part in term.args]
            products = [item for part in parts for item in part]
        else:
            factors = [self._monomials(part) for part in ([term.base] * int(term.exp) if term.is_Pow else term.args)]
            products = [
                (tuple(sorted(sum((monomial for monomial, _ in chosen), ()), key=self._order)), sp.Mul(*(c for _, c in chosen)))
                for chosen in itertools.product(*(factor.items() for factor in factors))
            ]
        found: dict[tuple[Any, ...], list[Any]] = {}
        for monomial, coefficient in products:
            found.setdefault(monomial, []).append(coefficient)
        sums = {monomial: quadratic.written_out(sp.Add(*coefficients)) for monomial, coefficients in found.items()}
        return {monomial: coefficient for monomial, coefficient in sums.items() if coefficient != 0}

    def _order(self, symbol: Any) -> tuple[int, int]:
        leaf, index = self.leaves.place[symbol]
        return list(map(id, self.leaves.whole.values())).index(id(leaf)), index

    def _square(self, term: Any) -> tuple[Any, Any] | None:
        """Coefficient and base of something written as a square."""
        rest = [part for part in sp.Mul.make_args(term) if self.varies(part)]
        if len(rest) != 1 or not rest[0].is_Pow or rest[0].exp != 2 or self.degree(rest[0].base) != 1:
            return None
        return sp.Mul(*(part for part in sp.Mul.make_args(term) if not self.varies(part))), rest[0].base

    def _squared(self, factor: Any, base: Any) -> Expression:
        return self._weighed(factor, kr.square(self.affine(base)), factor * base**2)

    def _form(self, H: Any, symbols: list[Any], stated: int) -> list[Expression]:
        """x'Hx / 2 for one independent part."""
        numbers = quadratic.constant(H)
        x = self._joined(symbols)
        if numbers is not None:
            sign = quadratic.sign_of(numbers)
            if sign == 0:
                form = sp.Add(*(H[i, j] * a * b / 2 for i, a in enumerate(symbols) for j, b in enumerate(symbols)))
                why = quadratic.downhill(numbers, [str(self.named(symbol)) for symbol in symbols])
                raise self.refuse("a quadratic that is neither convex nor concave", form, why, code="D08")
            return [kr.quad_form(x, numbers / 2)] if len(symbols) > 1 else [float(numbers[0, 0]) / 2 * kr.square(x[0])]
        if len(symbols) == 1:
            return [self._weighed(H[0, 0] / 2, kr.square(self.value(symbols[0])), H[0, 0] / 2 * symbols[0] ** 2, stated)]
        found = [] if stated else quadratic.combination(H)
        sums = [(self.data.sign(factor), factor, matrix, quadratic.sign_of(matrix)) for factor, matrix in found]
        signs = {sign * definite for sign, _, _, definite in sums}
        if len(signs) == 1 and 0 not in signs:
            return [self._weighed(factor, kr.quad_form(x, matrix / 2), factor) for _, factor, matrix, _ in sums]
        sign = stated or quadratic.pivots(H, self.data.sign)
        if sign == 0:
            form = sp.Add(*(H[i, j] * a * b / 2 for i, a in enumerate(symbols) for j, b in enumerate(symbols)))
            why = "its Hessian depends on parameters, and for some of their values it may be indefinite"
            mend = 'write it as a sum of squares\nstate it, to be checked at run time: assume={objective: "convex"}'
            raise self.refuse("a quadratic of unknown curvature", form, why, mend, code="D08")
        rows = kr.stack([self._vector(list(H[i, :] / 2)) for i in range(len(symbols))])
        return [kr.quad_form(x, kr.assume(rows, PSD=True) if sign > 0 else kr.assume(rows, NSD=True))]

    def _joined(self, symbols: list[Any]) -> Expression:
        """Variables as one vector; a whole leaf is itself."""
        leaf = self.leaves.place[symbols[0]][0]
        whole = [self.leaves.place[symbol][1] for symbol in symbols if self.leaves.place[symbol][0] is leaf]
        if len(symbols) == leaf.size and whole == list(range(leaf.size)) and leaf.ndim:
            return leaf if leaf.ndim == 1 else leaf.reshape(-1)
        return kr.stack([self.value(symbol) for symbol in symbols])

    def _convexity(self, term: Any) -> int:
        words = self._facts.get(term, ())
        return 1 if "convex" in words else -1 if "concave" in words else 0

    def _weighed(self, factor: Any, curved: Expression, term: Any, stated: int = 0) -> Expression:
        """A coefficient times an expression; its sign counts unless the expression is affine."""
        if factor == 1:
            return curved
        made = self.data.coefficient(factor) if curved.curvature.affine else self.data.signed(factor, stated)
        if not (curved.curvature.affine or made.sign.nonneg or made.sign.nonpos):
            name = brief(self.named(factor))
            why = f"{name} may be negative somewhere, which would turn {curved.curvature} into its opposite"
            state = f'state it, to be checked at run time: assume={{{name}: "nonneg"}}'
            mend = f"declare the sign: sympy.Symbol(..., nonnegative=True)\n{state}"
            raise self.refuse("a coefficient of unknown sign", term, why, mend, code="D02")
        return made * curved


def _huber(term: Any) -> tuple[Any, Any] | None:
    """x and M of what is x² where |x| <= M, and 2 M |x| - M² elsewhere."""
    if len(term.args) != 2 or term.args[1].cond != sp.true:
        return None
    (inside, within), outside = term.args[0].args, term.args[1].expr
    if not isinstance(within, sp.Le | sp.Ge) or not isinstance(within.lts, sp.Abs):
        return None
    x, M = within.lts.args[0], within.gts
    size = sp.Dummy("size", nonnegative=True)
    outer = outside.xreplace({sp.Abs(x): size})
    return (x, M) if _vanishes(inside - x**2) and _vanishes(outer - 2 * M * size + M**2) else None


def _vanishes(term: Any) -> bool:
    """Whether nothing is left when written out, but for rounding."""
    return all(abs(part.as_coeff_Mul()[0]) <= ROUNDING for part in sp.Add.make_args(sp.expand(term)))
