"""Facts that convexity needs and nobody stated: which parameter lacks them, where it was declared, and what to write there.

A coefficient of unknown sign is mended at the declaration of a parameter if declaring that one nonneg proves the sign of the whole
coefficient, and by ``kr.assume`` otherwise. The declaration is quoted in the user's own words with the attribute added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .atoms import Shape
from .diagnostics import DCPError, DefinitionError, Diagnostic, Note, definition_error, nature
from .expression import Constant, Expression
from .leaves import Parameter, Variable
from .sign import Sign
from .source import bracketed, sides, spoken, target
from .span import here
from .walk import leaves, postorder


@dataclass(frozen=True)
class _Fact:
    """An argument of which only shape and sign are asked."""

    shape: Shape
    sign: Sign


class Remedy(NamedTuple):
    """How to state what is missing, and where the parameters without it were declared."""

    mend: str
    notes: tuple[Note, ...]


def sign_remedy(coefficient: Expression, said: str) -> Remedy:
    """How the sign of a coefficient could become known; ``said`` is what the user calls it."""
    unsigned = [leaf for leaf in leaves([coefficient]) if isinstance(leaf, Parameter) and not _signed(leaf.sign)]
    declared = [_declared(leaf, "nonneg=True") for leaf in unsigned]
    enough = bool(unsigned) and _sign_if_nonneg(coefficient).nonneg
    assume = f"state it, if you know it; each call checks: kr.assume({said}, nonneg=True)"
    notes = tuple(
        Note(leaf.span, f"{name} is declared without a sign") for leaf, name in zip(unsigned, spoken(*unsigned), strict=True)
    )
    mend = f"declare the sign: {', '.join(declared)}\n{assume}" if enough else assume
    return Remedy(mend, notes[:2])


def definiteness_remedy(P: Expression, said: str) -> Remedy:
    """How the definiteness of a matrix could become known; ``said`` is what the user calls it."""
    build = f'build it of a factor: kr.Parameter({P.shape}, name="L"), and L @ L.T'
    assume = f"state it, if you know it; each call checks: kr.assume({said}, PSD=True)"
    if isinstance(P, Parameter):
        return Remedy(f"declare it: {_declared(P, 'PSD=True')}\n{build}", (Note(P.span, f"{said} is declared without PSD or NSD"),))
    if isinstance(P, Constant):
        return Remedy(f"check the data, or make it definite: {said} + delta * np.eye({P.shape[0]})", ())
    return Remedy(f"{assume}\n{build}", ())


def indefinite(x: Expression, P: Expression) -> DCPError:
    """``quad_form`` of a matrix of which nothing is known."""
    span = here()
    _, matrix = sides(span, x, P)
    remedy = definiteness_remedy(P, matrix)
    why = "x' P x is convex only if P is symmetric and positive semidefinite, concave only if negative"
    if isinstance(P, Constant):
        low, high = _eigenvalues(P)
        why = f"x' P x is convex only if P is positive semidefinite; its eigenvalues go from {low:.3g} to {high:.3g}"
        if not _symmetric(P):
            why = "P must be symmetric, and this constant is not"
            remedy = Remedy(f"write kr.quad_form(x, ({matrix} + {bracketed(matrix)}.T) / 2)", ())
    label = f"{matrix} is of unknown definiteness" if not isinstance(P, Constant) else f"{matrix} is not semidefinite"
    return DCPError(Diagnostic("D08", "quad_form of unknown curvature", span, "", label, why, remedy.mend, remedy.notes))


def unsigned(role: str, data: Expression, why: str) -> DCPError:
    """A role that takes data known to be nonnegative: ``huber``'s threshold, a weight."""
    span = here()
    (said,) = spoken(data, at=span)
    remedy = sign_remedy(data, said)
    if data.sign.nonpos:
        remedy = Remedy(f"turn its sign: {said.removeprefix('-') if said.startswith('-') else f'-({said})'}", ())
    label = f"the sign of {said} is unknown" if not data.sign.nonpos else f"{said} is not nonnegative"
    return DCPError(Diagnostic("D11", f"{role} must be known to be nonnegative", span, said, label, why, remedy.mend, remedy.notes))


def not_data(role: str, given: Expression, why: str) -> DCPError:
    """A role that takes data was given something with variables."""
    span = here()
    (said,) = spoken(given, at=span)
    mend = f"make it a Parameter, if it is data: {as_parameter(given)}"
    if not isinstance(given, Variable):
        mend = "replace its variables by parameters"
    return DCPError(Diagnostic("D12", f"{role} must be free of variables", span, said, nature(given, said), why, mend))


def no_function(given: object) -> DefinitionError:
    """``kr.function`` of something else."""
    why = f"kr.function takes the function first, then its arguments; got {given!r}"
    mend = "write kr.function(torch_function, argument, shape=...)"
    return definition_error("N12", "kr.function of something that cannot be called", why, mend, at=(0, "f"), label="no function")


def as_parameter(leaf: Expression) -> str:
    """The declaration of a variable, as that of a parameter."""
    return _declaration(leaf).replace("Variable(", "Parameter(")


def _declared(leaf: Expression, attribute: str) -> str:
    """The user's own declaration with an attribute more."""
    written = _declaration(leaf).removesuffix(")")
    return f"{written}{'' if written.endswith('(') else ', '}{attribute})"


def _declaration(leaf: Expression) -> str:
    (said,) = spoken(leaf)
    kind = type(leaf).__name__
    place = None if leaf.span is None else leaf.span.resolve()
    own = " ".join(place.text.split()) if place is not None else ""
    if f"{kind}(" not in own or not own.endswith(")"):
        shape = "" if not leaf.shape else f"{leaf.shape[0] if leaf.ndim == 1 else leaf.shape}, "
        own = f"kr.{kind}({shape}name={said!r})".replace("'", '"')
    return f"{target(leaf.span) or said} = {own}"


def _signed(sign: Sign) -> bool:
    return sign.nonneg or sign.nonpos


def _sign_if_nonneg(expression: Expression) -> Sign:
    """The sign that the rules would prove, were every parameter without a sign nonnegative."""
    known: dict[int, Sign] = {}
    for node in postorder([expression]):
        if node.atom is None:
            free = isinstance(node, Parameter) and not _signed(node.sign)
            known[id(node)] = Sign(nonneg=True) if free else node.sign
        else:
            known[id(node)] = node.atom.sign([_Fact(a.shape, known[id(a)]) for a in node.args], node.data)
    return known[id(expression)]


def _eigenvalues(P: Constant) -> tuple[float, float]:
    if not np.isfinite(P.value).all():
        return float("nan"), float("nan")
    values = np.linalg.eigvalsh((P.value + P.value.T) / 2)
    return float(values.min(initial=0.0)), float(values.max(initial=0.0))


def _symmetric(P: Constant) -> bool:
    return P.ndim == 2 and P.shape[0] == P.shape[1] and np.allclose(P.value, P.value.T)
