"""Expressions: what the user writes. Immutable nodes that know their shape, sign, curvature, form and place in the source.

    Expression = atom applied to expressions, with static data
    leaves     = Variable | Parameter | Constant      (the first two in ``leaves``)

Everything is decided when a node is built: shapes are checked at once (a ``ShapeError`` at the user's line); curvature is
recorded and judged when a ``Problem`` is made, so that all violations can be told together.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from . import curvature as curvature_module
from .atoms import ATOMS, Atom, MismatchError, Shape
from .constraint import Constraint
from .curvature import AFFINE, Curvature, Form
from .diagnostics import DefinitionError, UsageError, definition_error, shape_error, usage_error
from .keys import Key
from .printing import constant_text, text
from .sign import Sign, sign_of
from .span import Span, here


class Expression:
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
        return int(np.prod(self.shape))

    @property
    def T(self) -> Expression:
        """The transpose: all axes reversed."""
        return apply("transpose", self, axes=tuple(range(self.ndim))[::-1]) if self.ndim > 1 else self

    def label(self, names: Mapping[str, str]) -> str:
        """How a leaf is printed; ``names`` are by key."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.curvature} {self.shape}: {text(self)}>"

    def __len__(self) -> int:
        if not self.shape:
            raise usage_error("len() of a scalar expression", self, "a scalar has no length", "use .size for the number of entries")
        return self.shape[0]

    def __iter__(self) -> Iterator[Expression]:
        return (self[i] for i in range(len(self)))

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
        return apply("negate", self)

    def __pos__(self) -> Expression:
        return self

    def __mul__(self, other: Any) -> Expression:
        return product(self, wrap(other))

    def __rmul__(self, other: Any) -> Expression:
        return product(wrap(other), self)

    def __matmul__(self, other: Any) -> Expression:
        return apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Expression:
        return apply("matmul", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return product(self, reciprocal(wrap(other)))

    def __rtruediv__(self, other: Any) -> Expression:
        return product(wrap(other), reciprocal(self))

    def __pow__(self, exponent: Any) -> Expression:
        if isinstance(exponent, bool) or not isinstance(exponent, int | float | np.number):
            raise usage_error("an exponent must be a number", self, f"got {type(exponent).__name__}", "write x**2")
        if exponent == 2:
            return apply("square", self)
        if exponent == 1:
            return self
        if self.form is not Form.CONSTANT:
            raise usage_error(
                f"a variable to the power {exponent}",
                self,
                "only the powers 1 and 2 of a variable are representable in a quadratic program",
                "write x**2, or apply the power to data",
            )
        return apply("power", self, exponent=exponent)

    def __abs__(self) -> Expression:
        return apply("abs", self)

    def __getitem__(self, key: Any) -> Expression:
        try:
            frozen = Key.of(key)
            shape = np.empty(self.shape, dtype=bool)[frozen.value].shape
        except (IndexError, TypeError, ValueError) as error:
            raise shape_error(f"the index does not fit shape {self.shape}", str(error), "", self) from None
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

    def reshape(self, *shape: int | tuple[int, ...]) -> Expression:
        """The same entries, in C order, in another shape; one dimension may be -1."""
        target: Any = shape[0] if len(shape) == 1 else shape
        try:
            fitted = np.empty(self.shape, dtype=bool).reshape(target).shape
        except (ValueError, TypeError) as error:
            raise shape_error(f"shape {self.shape} cannot become {target}", str(error), "", self) from None
        return apply("reshape", self, shape=fitted)

    def flatten(self) -> Expression:
        """All entries in C order, as a vector."""
        return self.reshape(-1)

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

    def __lt__(self, other: Any) -> NoReturn:
        raise _strict_error("<", self)

    def __gt__(self, other: Any) -> NoReturn:
        raise _strict_error(">", self)

    def __ne__(self, other: object) -> NoReturn:
        raise usage_error("!= between expressions", self, "the set it describes is not convex", "write == for an equality")

    def __bool__(self) -> NoReturn:
        raise usage_error("the truth value of an expression", self, "it has no value before the problem is solved", "")

    def __float__(self) -> NoReturn:
        raise usage_error("a number was wanted", self, "an expression has no value before the problem is solved", "")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        mend = "wrap what stands on the left: kr.Constant(S) @ x"
        raise usage_error("NumPy or SciPy was given an expression", self, "it has no value yet", mend)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """Operators with a NumPy array on the left arrive here; other ufuncs have no meaning for an expression."""
        operation = UFUNCS.get(ufunc.__name__)
        if operation is None or method != "__call__" or kwargs:
            raise _numpy_error(ufunc.__name__, self)
        return operation(*(wrap(value) for value in inputs))

    def __array_function__(self, function: Any, *rest: Any) -> NoReturn:
        raise _numpy_error(getattr(function, "__name__", "function"), self)


class Operation(Expression):
    """An atom applied to arguments. A sibling of the leaves: were it their base, Python would turn ``a + b == x`` around."""

    __slots__ = ()


class Constant(Expression):
    """A number or array, float64. Accepts NumPy arrays, Python numbers, lists, SciPy sparse matrices and torch tensors."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        array = as_array(value)
        array.setflags(write=False)
        self._value = array
        start(self, array.shape, sign_of(array), Form.CONSTANT)

    @property
    def value(self) -> NDArray[np.float64]:
        """The array itself, read-only."""
        return self._value

    def label(self, names: Mapping[str, str]) -> str:
        return constant_text(self._value)


# Building nodes


def apply(name: str, *arguments: Any, **data: Any) -> Expression:
    """The node of atom ``name``; folded to a Constant when every argument is one."""
    atom, args = ATOMS[name], tuple(wrap(argument) for argument in arguments)
    try:
        shape = atom.shape([argument.shape for argument in args], data)
    except MismatchError as mismatch:
        raise shape_error(f"shapes do not fit in {name}", mismatch.why, mismatch.mend, *args) from None
    if atom.folds and atom.value is not None and all(isinstance(argument, Constant) for argument in args):
        with np.errstate(all="ignore"):
            return Constant(atom.value(*(argument.value for argument in args if isinstance(argument, Constant)), **data))
    node = Operation()
    node.atom, node.args, node.data, node.shape, node.span = atom, args, data, shape, here()
    node.sign = atom.sign(args, data)
    node.form, node.curvature = _form_and_curvature(atom, args, data)
    return node


def _form_and_curvature(atom: Atom, args: tuple[Expression, ...], data: Mapping[str, Any]) -> tuple[Form, Curvature]:
    inner = max((argument.form for argument in args), default=Form.CONSTANT)
    if inner is Form.CONSTANT:
        return Form.CONSTANT, AFFINE
    product_of_variables = atom.name in ("multiply", "matmul") and all(a.form > Form.CONSTANT for a in args)
    if atom.form is Form.CONSTANT or product_of_variables or inner is Form.NONE:
        return Form.NONE, curvature_module.UNKNOWN
    directions = [(a.curvature, atom.monotone(args, i)) for i, a in enumerate(args)]
    curvature = curvature_module.compose(atom.curvature(args, data), directions)
    if atom.form is Form.AFFINE:
        return inner, curvature
    if atom.form is Form.PIECEWISE:
        return (Form.PIECEWISE if inner <= Form.PIECEWISE else Form.NONE), curvature
    flat = all(a.form <= Form.AFFINE or (a.form is Form.PIECEWISE and a.curvature.convex and a.sign.nonneg) for a in args)
    return (Form.QUADRATIC if flat else Form.NONE), curvature


def _relation(op: str, left: Expression, right: Any) -> Constraint:
    first, second = broadcast(left, right)
    return Constraint(op, first, second, here())


def elementwise(name: str, *arguments: Any, **data: Any) -> Expression:
    """Apply an elementwise atom after NumPy broadcasting."""
    return apply(name, *broadcast(*arguments), **data)


def broadcast(*arguments: Any) -> tuple[Expression, ...]:
    """All arguments brought to their common NumPy shape."""
    args = tuple(wrap(argument) for argument in arguments)
    try:
        shape = np.broadcast_shapes(*(argument.shape for argument in args))
    except ValueError:
        shapes = " and ".join(str(argument.shape) for argument in args)
        why = f"shapes {shapes} do not broadcast"
        raise shape_error("shapes do not fit", why, "reshape one of them", *args) from None
    return tuple(a if a.shape == shape else apply("broadcast_to", a, shape=shape) for a in args)


def product(left: Expression, right: Expression) -> Expression:
    """``*``: elementwise between equal shapes or with a scalar; refused between others, where @ is often meant."""
    if left.shape != right.shape and left.shape and right.shape:
        raise shape_error(
            "* between different shapes",
            f"* is elementwise between equal shapes or with a scalar; got {left.shape} and {right.shape}",
            "write @ for a matrix product, or kr.multiply(a, b) for NumPy broadcasting",
            left,
            right,
        )
    return elementwise("multiply", left, right)


def reciprocal(value: Expression) -> Expression:
    """1 / value, elementwise; value must be free of variables."""
    if value.form is not Form.CONSTANT:
        raise usage_error("division by an expression with variables", value, "it is not convex as a rule", "multiply instead")
    return apply("reciprocal", value)


def wrap(value: Any) -> Expression:
    """The expression itself, or a Constant."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, Constraint):
        raise usage_error("a constraint inside an expression", value.left, "a constraint is not a value", "")
    return Constant(value)


def as_array(value: Any) -> NDArray[np.float64]:
    """A float64 copy of a constant, whatever library it came from."""
    if getattr(value, "requires_grad", False):
        raise _constant_error("a tensor that requires grad", "make it a kr.Parameter and pass it when the layer is called")
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    elif hasattr(value, "toarray"):
        value = value.toarray()
    raw = np.asarray(value)
    if raw.dtype == object or raw.dtype.kind not in "biuf":
        raise _constant_error(f"{type(value).__name__} of kind {raw.dtype}", "pass real numbers, arrays or tensors")
    array = np.array(raw, dtype=np.float64)
    if np.isnan(array).any():
        raise _constant_error("an array with NaN", "remove the NaN entries, or make it a kr.Parameter")
    return array


def normalized(axis: int | tuple[int, ...] | None, expression: Expression) -> tuple[int, ...] | None:
    """Axes as a sorted tuple of nonnegative integers."""
    if axis is None:
        return None
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    if not all(isinstance(a, int | np.integer) for a in axes) or any(not -expression.ndim <= a < expression.ndim for a in axes):
        raise shape_error(f"axis {axis} does not exist", f"the shape is {expression.shape}", "", expression)
    return tuple(sorted({a % expression.ndim for a in axes}))


def matrix(expression: Expression, name: str) -> Expression:
    """The expression, if it is a matrix."""
    if expression.ndim != 2:
        raise shape_error(f"{name} needs a matrix", f"got shape {expression.shape}", "", expression)
    return expression


def start(leaf: Expression, shape: Shape, sign: Sign, form: Form) -> None:
    """Set what every leaf has."""
    leaf.atom, leaf.args, leaf.data, leaf.span = None, (), {}, here()
    leaf.shape, leaf.sign, leaf.form, leaf.curvature = shape, sign, form, AFFINE


# NumPy's names of the operators of Python.
UFUNCS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "matmul": operator.matmul,
    "negative": operator.neg,
    "absolute": operator.abs,
    "equal": operator.eq,
    "less_equal": operator.le,
    "greater_equal": operator.ge,
}


def _numpy_error(name: str, expression: Expression) -> UsageError:
    mend = "use karush's own functions, such as kr.sum, kr.exp or kr.maximum"
    return usage_error(f"NumPy's {name} was given an expression", expression, "it has no value yet", mend)


def _constant_error(got: str, mend: str) -> DefinitionError:
    return definition_error("N02", "a constant cannot be used", f"got {got}", mend)


def _strict_error(op: str, expression: Expression) -> UsageError:
    mend = f"write {op}=; in place of Python's max and min write kr.maximum and kr.minimum"
    return usage_error(f"a strict inequality {op}", expression, "a strict inequality has no attained optimum", mend)
