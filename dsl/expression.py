"""Expressions: what the user writes. Immutable nodes that know their shape, sign, curvature, form and place in the source.

    Expression = atom applied to expressions, with static data
    leaves     = Variable | Parameter | Constant      (the first two in ``leaves``)

Everything is decided when a node is built: shapes are checked at once (a ``ShapeError`` at the user's line); curvature is
recorded and judged when a ``Problem`` is made, so that all violations can be told together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from . import curvature as curvature_module
from . import squares, usage
from .atoms import ATOMS, Atom, MismatchError, Shape
from .axes import matrix, normalized
from .constraint import Constraint
from .curvature import AFFINE, Curvature, Form
from .definite import definiteness, symmetric
from .diagnostics import shape_error
from .display import Shown, leaf_latex
from .foreign import TORCH, UFUNCS, as_array, as_sparse
from .idioms import shown
from .keys import Key
from .latex import latex
from .printing import constant_text, text
from .questions import Asked
from .refused import Refused
from .sign import SIGNS, Sign, sign_of
from .span import Span, here
from .walk import same

Order = Literal["C", "F"]
NUMBERS, EXACT = (float, int, np.float64), 2**53  # below it every int is a float


class Expression(Shown, Asked, Refused):
    """A node of a model. Build them with operators and the functions of this package."""

    __slots__ = ("args", "atom", "curvature", "data", "form", "shape", "sign", "span")
    atom: Atom | None
    args: tuple[Expression, ...]
    data: Mapping[str, Any]
    shape: Shape
    sign: Sign
    curvature: Curvature
    form: Form
    span: Span | None

    # Facts

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def T(self) -> Expression:
        """The transpose: all axes reversed."""
        return apply("transpose", self, axes=tuple(range(self.ndim))[::-1]) if self.ndim > 1 else self

    def label(self, names: Mapping[str, str]) -> str:
        """How a leaf is printed; ``names`` are by key."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.curvature} {self.shape}: {text(self)}>"

    def latex(self) -> str:
        """In LaTeX, without delimiters; a leaf with the set it is declared in."""
        return leaf_latex(self) if hasattr(self, "attributes") else latex(self)

    def __len__(self) -> int:
        if not self.shape:
            raise usage.length(self)
        return self.shape[0]

    def __iter__(self) -> Iterator[Expression]:
        return (self[i] for i in range(len(self)))

    @staticmethod
    def elementwise(name: str, *arguments: Any, **data: Any) -> Expression:
        """An elementwise atom of these arguments, for modules that expressions are built with."""
        return elementwise(name, *arguments, **data)

    # Operators

    def __add__(self, other: Any) -> Expression:
        return elementwise("add", self, other)

    def __radd__(self, other: Any) -> Expression:
        return elementwise("add", other, self)

    def __sub__(self, other: Any) -> Expression:
        return elementwise("add", self, -wrap(other))

    def __rsub__(self, other: Any) -> Expression:
        return elementwise("add", other, -self)

    def __neg__(self) -> Expression:
        return Constant.known(-self.value, -self.sign) if isinstance(self, Constant) else apply("negate", self)

    def __pos__(self) -> Expression:
        return self

    def __mul__(self, other: Any) -> Expression:
        return product(self, wrap(other))

    def __rmul__(self, other: Any) -> Expression:
        return product(wrap(other), self)

    def __matmul__(self, other: Any) -> Expression:
        return matrix_product(self, wrap(other))

    def __rmatmul__(self, other: Any) -> Expression:
        return matrix_product(wrap(other), self)

    def __truediv__(self, other: Any) -> Expression:
        return product(self, reciprocal(wrap(other)))

    def __rtruediv__(self, other: Any) -> Expression:
        return product(wrap(other), reciprocal(self))

    def __pow__(self, exponent: Any) -> Expression:
        if isinstance(exponent, bool) or not isinstance(exponent, int | float | np.number):
            raise usage.no_number(self, exponent)
        if exponent == 2:
            return squared(self)
        if exponent in (0, 1):
            return self if exponent else Constant(np.ones(self.shape))
        if self.form is not Form.CONSTANT:
            raise usage.raised(self, exponent)
        return apply("power", self, exponent=exponent)

    def __abs__(self) -> Expression:
        return apply("abs", self)

    def __getitem__(self, key: Any) -> Expression:
        try:
            frozen = Key.of(key)
            shape = np.empty(self.shape, dtype=bool)[frozen.value].shape
        except (IndexError, TypeError, ValueError) as error:
            raise usage.index(self, error) from None
        return apply("index", self, key=frozen, shape=shape)

    # Methods with NumPy's names

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Expression:
        """Sum of entries over ``axis`` (all of them if None)."""
        return apply("sum", self, axis=normalized(axis, self), keepdims=keepdims)

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Expression:
        """Mean of entries over ``axis`` (all of them if None)."""
        total = self.sum(axis, keepdims)
        return total * (total.size / self.size if self.size else 1.0)

    def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Expression:
        """Largest entry over ``axis`` (all of them if None). Convex."""
        return apply("max", self, axis=normalized(axis, self), keepdims=keepdims)

    def min(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Expression:
        """Smallest entry over ``axis`` (all of them if None). Concave."""
        return -(-self).max(axis, keepdims)

    def reshape(self, *shape: int | tuple[int, ...], order: Order = "C") -> Expression:
        """The same entries in another shape; one dimension may be -1. In C order: rows one after the other; "F": columns."""
        target: Any = shape[0] if len(shape) == 1 else shape
        if order not in ("C", "F"):
            raise usage.no_order(self, order)
        try:
            fitted = np.empty(self.shape, dtype=bool).reshape(target, order=order).shape
        except (ValueError, TypeError) as error:
            raise usage.reshaped(self, target, error) from None
        if order == "F":  # columns are the rows of the transpose
            return self.T.reshape(fitted[::-1]).T
        return apply("reshape", self, shape=fitted)

    def flatten(self, order: Order = "C") -> Expression:
        """All entries as a vector: rows one after the other; with order "F" columns."""
        return self.reshape(-1, order=order)

    def ptp(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Expression:
        """Largest minus smallest entry over ``axis`` (all of them if None). Convex, nonnegative."""
        return apply("ptp", self, axis=normalized(axis, self), keepdims=keepdims)

    def var(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, ddof: int = 0) -> Expression:
        """Variance over ``axis``: the sum of squares around the mean, over their number - ``ddof``. Convex, nonnegative."""
        total = squared(self - self.mean(axis, keepdims=True)).sum(axis, keepdims)
        number = self.size // total.size if total.size else 0
        if number <= ddof:
            why = f"{number} entries less ddof={ddof} leaves nothing to divide by"
            raise shape_error("var of too few entries", why, "write ddof=0, for the mean square", self, code="S08")
        return total / (number - ddof)

    def cumsum(self, axis: int | None = 0) -> Expression:
        """Cumulative sum along ``axis``, or of all entries in C order if None."""
        if axis is None:
            return apply("cumsum", self.flatten(), axis=0)
        (direction,) = normalized(axis, self) or (0,)
        return apply("cumsum", self, axis=direction)

    def trace(self) -> Expression:
        """Sum of the diagonal of a matrix."""
        return apply("diagonal", matrix(self, "trace"), offset=0).sum()

    # Relations

    def __eq__(self, other: object) -> Constraint:  # type: ignore[override]  # relations build constraints
        return _relation("==", self, other)

    def __le__(self, other: Any) -> Constraint:
        return _relation("<=", self, other)

    def __ge__(self, other: Any) -> Constraint:
        return _relation(">=", self, other)

    __hash__ = object.__hash__

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Operators with a NumPy array on the left arrive here; other ufuncs have no meaning for an expression."""
        operation = UFUNCS.get(ufunc.__name__)
        if operation is None or method != "__call__" or kwargs:
            raise usage.numpy(ufunc.__name__, self)
        return operation(*(wrap(value) for value in inputs))

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Operators with a torch tensor on the left arrive here; torch's other functions have no meaning for an expression."""
        name = getattr(function, "__name__", "function")
        operation = UFUNCS.get(TORCH.get(name, name))
        if operation is None or kwargs:
            raise usage.numpy(name, usage.first(args, (kwargs or {}).values()), "torch")
        return operation(*(wrap(value) for value in args))


class Operation(Expression):
    """An atom applied to arguments. A sibling of the leaves: were it their base, Python would turn ``a + b == x`` around."""

    __slots__ = ()


class Constant(Expression):
    """A number or array, float64. Accepts NumPy arrays, Python numbers, lists, SciPy sparse matrices and torch tensors.

    ``sparse``: a sparse matrix as it was given, by rows; None for all others. In products it is never written out.
    """

    __slots__ = ("_value", "sparse")
    sparse: Any
    _value: NDArray[np.float64] | None

    def __init__(self, value: Any) -> None:
        self.sparse, self._value = None, None
        if value.__class__ in NUMBERS and abs(value) < EXACT:  # and no NaN
            self._hold(np.array(value, dtype=np.float64), SIGNS[bool(value >= 0), bool(value <= 0)])
            return
        self.sparse = None if value.__class__ is np.ndarray else as_sparse(value)
        if self.sparse is not None:
            start(self, self.sparse.shape, sign_of(self.sparse.data), Form.CONSTANT)
        else:
            array = as_array(value)
            self._hold(array, sign_of(array))

    @staticmethod
    def known(value: Any, sign: Sign) -> Constant:
        """Of numbers of our own that need no check, and their sign."""
        made = Constant.__new__(Constant)
        made.sparse = None
        made._hold(np.asarray(value), sign if np.size(value) else SIGNS[True, True])
        return made

    def _hold(self, value: NDArray[np.float64], sign: Sign) -> None:
        value.setflags(write=False)
        self._value = value
        start(self, value.shape, sign, Form.CONSTANT)

    @property
    def value(self) -> NDArray[np.float64]:
        """The array itself, read-only."""
        if self._value is None:
            whole = np.asarray(self.sparse.toarray())
            whole.setflags(write=False)
            self._value = whole
        return self._value

    @value.setter
    def value(self, given: Any) -> NoReturn:
        raise usage.stored(self)

    @property
    def T(self) -> Expression:
        """The transpose: all axes reversed."""
        return super().T if self.sparse is None else Constant(self.sparse.T)

    def label(self, names: Mapping[str, str]) -> str:
        value = shown(self)
        return f"const{self.shape}" if value is None else constant_text(value)


# Building nodes


def apply(name: str, *arguments: Any, **data: Any) -> Expression:
    """The node of atom ``name``; folded to a Constant when every argument is one."""
    atom, args = ATOMS[name], tuple([a if isinstance(a, Expression) else wrap(a) for a in arguments])
    try:
        shape = atom.shape([argument.shape for argument in args], data)
    except MismatchError as mismatch:
        title = mismatch.title or f"an argument of the wrong shape in {name}"
        raise shape_error(title, mismatch.why, mismatch.mend, *args, code=mismatch.code) from None
    if atom.folds and atom.value is not None and (not args or isinstance(args[0], Constant)):
        constants = [argument for argument in args if isinstance(argument, Constant)]
        if len(constants) == len(args):
            with np.errstate(all="ignore"):
                return Constant(atom.value(*[constant.value for constant in constants], **data))
    node = Operation()
    node.atom, node.args, node.data, node.shape, node.span = atom, args, data, shape, here()
    node.sign = atom.sign(args, data)
    node.form, node.curvature = curvature_module.judged(atom, args, data)
    return node


def _relation(op: str, left: Expression, right: Any) -> Constraint:
    first, second = broadcast(left, right)
    return Constraint(op, first, second, here())


def elementwise(name: str, *arguments: Any, **data: Any) -> Expression:
    """Apply an elementwise atom after NumPy broadcasting."""
    return apply(name, *broadcast(*arguments), **data)


def broadcast(*arguments: Any) -> tuple[Expression, ...]:
    """All arguments brought to their common NumPy shape."""
    args = tuple([a if isinstance(a, Expression) else wrap(a) for a in arguments])
    shapes = {argument.shape for argument in args}
    if len(shapes) == 1:
        return args
    try:
        shape = max(shapes) if () in shapes and len(shapes) == 2 else np.broadcast_shapes(*shapes)
    except ValueError:
        why = "aligned from the right, dimensions must be equal, or one of them 1"
        raise shape_error("shapes that do not broadcast", why, usage.spreading([a.shape for a in args]), *args) from None
    return tuple([a if a.shape == shape else spread(a, shape) for a in args])


def spread(x: Expression, shape: Shape) -> Expression:
    """Broadcast to a shape."""
    if isinstance(x, Constant) and not x.shape:
        return Constant.known(np.full(shape, x.value), x.sign)
    return apply("broadcast_to", x, shape=shape)


def product(left: Expression, right: Expression) -> Expression:
    """``*``: elementwise between equal shapes or with a scalar; refused between others, where @ is often meant."""
    if left.shape != right.shape and left.shape and right.shape:
        raise usage.star(left, right)
    return multiplied(left, right)


def multiplied(left: Expression, right: Expression) -> Expression:
    """The elementwise product, broadcast; of an expression with itself, its square."""
    if left.form is not Form.CONSTANT and right.form is not Form.CONSTANT:
        found = squares.elementwise(left, right)
        if found is not None:
            return scaled(found.scales, squared(found.x))
    if left.form is right.form is Form.CONSTANT and left.ndim < 2 and same(left, right):  # of matrices definiteness would be lost
        return squared(left)
    return elementwise("multiply", left, right)


def matrix_product(left: Expression, right: Expression) -> Expression:
    """``left @ right``; where both are the same vector up to data, the quadratic that it is."""
    if left.form is not Form.CONSTANT and right.form is not Form.CONSTANT:
        found = squares.inner(left, right)
        total: Expression | None = None
        if found is not None and not found.matrices:
            total = squared(found.x).sum()
        elif found is not None:
            known = definiteness(found.P)
            if (known.nonneg or known.nonpos) and symmetric(found.P):
                total = apply("quad_form", found.x if left.ndim == 1 else found.x.flatten(), found.P, definite=known)
        if found is not None and total is not None:
            return scaled(found.scales, total if left.ndim == 1 else total.reshape(1, 1))
    if left.form is right.form is Form.CONSTANT and left.ndim == 1 and same(left, right):
        return squared(left).sum()
    return apply("matmul", left, right)


def squared(x: Expression) -> Expression:
    """x², elementwise; of a Euclidean norm, the sum of squares that it is the root of."""
    scales, norm = squares.peeled(x)
    if norm.atom is not None and norm.atom.name == "norm2" and norm.form is not Form.CONSTANT:
        return scaled((*scales, *scales), squared(norm.args[0]).sum(**norm.data))
    return apply("square", x)


def scaled(scales: Sequence[Expression | float], x: Expression) -> Expression:
    """x times numbers; an even number of signs is none."""
    sign = 1.0
    for scale in scales:
        if isinstance(scale, float):
            sign *= scale
        else:
            x = elementwise("multiply", scale, x)
    return x if sign == 1 else -x if sign == -1 else elementwise("multiply", sign, x)


def reciprocal(value: Expression) -> Expression:
    """1 / value, elementwise; value must be free of variables."""
    if value.form is not Form.CONSTANT:
        raise usage.divided(value)
    return apply("reciprocal", value)


def wrap(value: Any) -> Expression:
    """The expression itself, or a Constant."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, Constraint):
        raise usage.inside(value)
    return Constant(value)


def start(leaf: Expression, shape: Shape, sign: Sign, form: Form) -> None:
    """Set what every leaf has."""
    leaf.atom, leaf.args, leaf.data, leaf.span = None, (), {}, here()
    leaf.shape, leaf.sign, leaf.form, leaf.curvature = shape, sign, form, AFFINE
