"""Products of two or more factors, all but one of which are free of variables.

Composed of ``multiply`` and ``matmul``, whose coefficients the compiler reads entry by entry: a product with zeros in known places
has coefficients in the others only. A product of an expression with itself is the square that it is.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from .affine import concatenate, transpose
from .diagnostics import shape_error
from .expression import Expression, matrix_product, multiplied, wrap

NAMED = re.compile(r"[A-Za-z]*(,[A-Za-z]*)*(->[A-Za-z]*)?")


def multiply(x: Any, y: Any) -> Expression:
    """Elementwise product with NumPy broadcasting; one factor must be free of variables."""
    return multiplied(wrap(x), wrap(y))


def matmul(x: Any, y: Any) -> Expression:
    """Matrix product ``x @ y``; one factor must be free of variables."""
    return matrix_product(wrap(x), wrap(y))


def vdot(x: Any, y: Any) -> Expression:
    """Sum of products of entries in C order; one factor must be free of variables."""
    x, y = wrap(x), wrap(y)
    if x.size != y.size:
        why = f"each entry meets one of the other: {x.size} against {y.size}"
        raise shape_error("vdot of different sizes", why, "check the shapes", x, y, code="S08")
    first, second = (one if one.ndim == 1 else one.flatten() for one in (x, y))
    result: Expression = first @ second
    return result


def scalar_product(x: Any, y: Any) -> Expression:
    """Sum of products of entries: another name of ``vdot``."""
    return vdot(x, y)


def outer(x: Any, y: Any) -> Expression:
    """The matrix of all products x_i y_j, entries in C order; one factor must be free of variables."""
    x, y = wrap(x), wrap(y)
    column = x.reshape(-1, 1)
    return matrix_product(column, column.T if x is y else y.reshape(-1, 1).T)


def kron(x: Any, y: Any) -> Expression:
    """Kronecker product: every entry of x times the whole of y, as in NumPy; one factor must be free of variables."""
    x, y = wrap(x), wrap(y)
    ndim = x.ndim if x.ndim > y.ndim else y.ndim
    a, b = ((1,) * (ndim - one.ndim) + one.shape for one in (x, y))
    left = x.reshape(tuple(size for pair in a for size in (pair, 1)))
    right = y.reshape(tuple(size for pair in b for size in (1, pair)))
    return multiplied(left, right).reshape(tuple(p * q for p, q in zip(a, b, strict=True)))


def convolve(x: Any, y: Any) -> Expression:
    """Full discrete convolution of two vectors, of length n + m - 1; one must be free of variables.

    Row i of the outer product stands i places further right; written one after the other with n zeros behind each row and cut
    into rows one entry shorter, they do, and the convolution is the sum of columns.
    """
    x, y = wrap(x), wrap(y)
    if x.ndim > 1 or y.ndim > 1 or not x.size or not y.size:
        why = f"a convolution is of two vectors that have entries; got {x.shape} and {y.shape}"
        raise shape_error("convolve needs vectors", why, "flatten them first", x, y, code="S08")
    n, m = x.size, y.size
    if n > m:
        return convolve(y, x)  # the shorter one makes the rows
    padded = concatenate([multiplied(x.reshape(-1, 1), y.reshape(1, -1)), np.zeros((n, n))], 1)
    return padded.flatten()[: n * (n + m - 1)].reshape(n, n + m - 1).sum(0)


def conv(x: Any, y: Any) -> Expression:
    """Full discrete convolution: another name of ``convolve``."""
    return convolve(x, y)


def einsum(subscripts: str, *operands: Any) -> Expression:
    """Sums of products over named axes, as in NumPy, without ``...``: ``einsum("tij,tj->ti", A, x)``.

    At most one operand has variables; data are multiplied with each other first. Raises ShapeError.
    """
    factors = [wrap(operand) for operand in operands]
    names, wanted = _named(subscripts, factors)
    pairs = sorted(zip(names, factors, strict=True), key=lambda pair: pair[1].form)  # data first
    while len(pairs) > 1:
        (first, x), (second, y), *pairs = pairs
        kept = {letter for others, _ in pairs for letter in others} | set(wanted)
        pairs.insert(0, _contracted((first, x), (second, y), kept))
    letters, result = _reduced(*pairs[0], set(wanted))
    return transpose(result, tuple(letters.index(letter) for letter in wanted)) if letters != wanted else result


Named = tuple[str, Expression]


def _named(subscripts: str, factors: list[Expression]) -> tuple[list[str], str]:
    """The letters of each operand and of the result."""
    compact = subscripts.replace(" ", "")
    names, _, wanted = compact.partition("->")
    letters = names.split(",")
    if "->" not in compact:
        wanted = "".join(sorted(letter for letter in set(names) - {","} if names.count(letter) == 1))
    sizes: dict[str, int] = {}
    good = NAMED.fullmatch(compact) is not None and len(letters) == len(factors) and len(set(wanted)) == len(wanted)
    for own, factor in zip(letters, factors, strict=False):
        good = good and len(own) == factor.ndim
        good = good and all(sizes.setdefault(letter, size) == size for letter, size in zip(own, factor.shape, strict=True))
    if not good or not set(wanted) <= set(sizes):
        shapes = ", ".join(str(factor.shape) for factor in factors)
        why = f"{subscripts!r} must name every axis of every operand by a letter, of one size each; the shapes are {shapes}"
        mend = 'write one group of letters for each operand: "ij,j->i"'
        raise shape_error("einsum of axes that do not fit", why, mend, *factors, code="S08")
    return letters, wanted


def _reduced(letters: str, x: Expression, kept: set[str]) -> Named:
    """Diagonals of repeated letters taken, and letters that nobody asks for summed."""
    for letter in dict.fromkeys(letters):
        if letters.count(letter) > 1:
            places = [axis for axis, own in enumerate(letters) if own == letter]
            order = (*places, *(axis for axis in range(x.ndim) if axis not in places))
            every = np.arange(x.shape[places[0]])
            x = transpose(x, order)[(every,) * len(places)]
            letters = letter + "".join(own for own in letters if own != letter)
    gone = tuple(axis for axis, letter in enumerate(letters) if letter not in kept)
    return "".join(letter for letter in letters if letter in kept), x.sum(gone) if gone else x


def _contracted(left: Named, right: Named, kept: set[str]) -> Named:
    """The product of two operands, summed over letters that nobody asks for any more: one product of stacks of matrices."""
    first, x = _reduced(*left, kept | set(right[0]))
    second, y = _reduced(*right, kept | set(left[0]))
    shared = [letter for letter in first if letter in second]
    stacked = "".join(letter for letter in shared if letter in kept)
    summed = "".join(letter for letter in shared if letter not in kept)
    rows = "".join(letter for letter in first if letter not in shared)
    columns = "".join(letter for letter in second if letter not in shared)
    sizes = dict(zip(first, x.shape, strict=True)) | dict(zip(second, y.shape, strict=True))

    left_matrix = _arranged(first, x, [stacked, rows, summed])
    right_matrix = _arranged(second, y, [stacked, summed, columns])
    product = matrix_product(left_matrix, right_matrix)
    letters = stacked + rows + columns
    return letters, product.reshape(tuple(sizes[letter] for letter in letters))


def _arranged(letters: str, x: Expression, groups: list[str]) -> Expression:
    """A stack of matrices, its axes made of groups of letters; a plain matrix where nothing is stacked."""
    sizes = dict(zip(letters, x.shape, strict=True))
    order = tuple(letters.index(letter) for letter in "".join(groups))
    turned = transpose(x, order) if order != tuple(range(x.ndim)) else x
    shape = tuple(math.prod(sizes[letter] for letter in group) for group in (groups if groups[0] else groups[1:]))
    return turned if turned.shape == shape else turned.reshape(shape)
