"""Every code that an error can carry: what it is about, the rule behind it, and a line that breaks it.

Codes are stable: a released one keeps its meaning and is never used again. The letter is the family. ``docs/errors.md`` has a whole
program and the message for each.

    S  shapes            U  Python that has no meaning here      N  declarations, names, constants, arguments of ``compile``
    D  convexity         I  inputs of a call                     R  how a solve ended                     X  other packages
"""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """``title`` in a few words, the ``rule`` that is broken, and a line that is ``wrong``."""

    title: str
    rule: str
    wrong: str


FAMILIES = {
    "S": "Shapes",
    "U": "Python that has no meaning here",
    "N": "Declarations and names",
    "D": "Convexity",
    "I": "Inputs of a call",
    "R": "How a solve ended",
    "X": "Other packages",
}

CODES = {
    "S01": Code(
        "shapes that do not broadcast", "Aligned from the right, dimensions are equal, or one of them is 1.", "x + np.ones(3)"
    ),
    "S02": Code("* between different shapes", "* is elementwise between equal shapes, or with a scalar.", "A * x"),
    "S03": Code("@ between matrices that do not fit", "The inner dimensions of a matrix product are equal.", "A.T @ x"),
    "S04": Code("an index that does not fit", "Indices follow NumPy: from 0, within the shape.", "x[4]"),
    "S05": Code("an axis that does not exist", "Axes are numbered 0 to ndim - 1.", "kr.sum(x, axis=1)"),
    "S06": Code("a reshape that does not fit", "A reshape keeps the number of entries.", "x.reshape(3, 2)"),
    "S07": Code("an objective that is not a scalar", "An objective is one number.", "kr.Minimize(x)"),
    "S08": Code("an argument of the wrong shape", "Each function says which shapes it takes.", "kr.trace(x)"),
    "S09": Code("parts that cannot be joined", "Joined along an axis, parts agree in all other dimensions.", "kr.stack([x, y])"),
    "U01": Code("the truth value of a constraint", "Constraints state what will hold; Python wants to know now.", "0 <= x <= 1"),
    "U02": Code("a strict inequality", "A strict inequality has no attained optimum.", "x < 1"),
    "U03": Code("!= between expressions", "Points that differ form no convex set.", "x != 1"),
    "U04": Code("the truth value of an expression", "An expression has no value before the problem is solved.", "if x: ..."),
    "U05": Code("a function of another library", "NumPy, SciPy and torch compute with numbers.", "np.sum(x)"),
    "U06": Code("a number was wanted", "An expression has no value before the problem is solved.", "float(x[0])"),
    "U07": Code("% and //", "Remainders and rounded quotients jump.", "x % 2"),
    "U08": Code("a power that is not representable", "Of a variable, only the powers 1 and 2 are.", "x**3"),
    "U09": Code("division by variables", "A quotient is affine only if the divisor is data.", "1 / x"),
    "U10": Code("a function that no quadratic program holds", "Smooth functions apply to data, not to variables.", "kr.exp(x)"),
    "U12": Code("len() of a scalar", "A scalar has no length.", "len(x[0])"),
    "U13": Code("a constraint inside an expression", "A constraint is a statement, not a value.", "kr.sum(x >= 0)"),
    "U14": Code("Python's max, min, sorted", "They compare, and expressions have no order yet.", "max(x, 0)"),
    "U15": Code("assignment to an entry", "Expressions are formulas, not storage.", "x[0] = 1"),
    "U16": Code("an attribute of another library", "Expressions are formulas and hold no values.", "x.value"),
    "U17": Code("a matrix inequality", "Semidefinite matrices to be chosen make a semidefinite program.", "X >> 0"),
    "N01": Code("a shape that is none", "Shapes are nonnegative integers.", "kr.Variable(2.5)"),
    "N02": Code("a constant that cannot be used", "Constants are real, known, and have no gradient.", "x + np.nan"),
    "N03": Code("a problem made of other things", "A problem is an objective and constraints.", "kr.Problem(kr.sum(x))"),
    "N04": Code("an argument of compile", "compile takes a problem, and parts of it.", "kr.compile(x)"),
    "N05": Code(
        "a name that cannot be a keyword", "Names become keyword arguments and state_dict keys.", 'kr.Variable(name="two words")'
    ),
    "N06": Code("an unknown attribute", "Attributes are a closed list.", "kr.Variable(3, nonegative=True)"),
    "N07": Code("attributes that do not fit", "Attributes agree with the shape and with each other.", "kr.Parameter(3, PSD=True)"),
    "N08": Code("a name that is taken", "Within a problem, every leaf has its own name.", 'kr.Variable(name="x"), twice'),
    "N09": Code(
        "a constraint name that is taken", "Within a problem, every constraint has its own name.", '[{"cap": a}, {"cap": b}]'
    ),
    "N10": Code("something that the problem does not have", "compile names parts of the problem.", 'outputs=["y"]'),
    "N11": Code("a weight whose name is taken", "Weights become attributes of a torch module.", 'kr.Parameter(name="forward")'),
    "N12": Code("a function that cannot be called", "kr.function takes a callable first.", "kr.function(theta, shape=3)"),
    "N13": Code("bounds that cannot be used", "Bounds are a pair of data, low <= high.", "kr.Variable(3, bounds=[1, 0])"),
    "N14": Code("a pattern of sparsity", "A pattern is a tuple of index arrays.", "kr.Variable((3, 3), sparsity=[0, 1])"),
    "N15": Code("the value of a parameter", "A declared value is one item that complies.", "kr.Parameter(3, value=[1, 2])"),
    "N16": Code("a condition that is neither true nor false", "A row is there or not.", "(x <= 1).where([0.5, 1])"),
    "N17": Code("an argument of soft or project", "Relations are softened, variables projected.", "kr.soft(x, 1.0)"),
    "N18": Code("a sum of Minimize and Maximize", "Objectives of one sense add.", "kr.Minimize(f) + kr.Maximize(g)"),
    "D01": Code("a product of variables", "A product is affine only if one factor is free of variables.", "x * y"),
    "D02": Code("a coefficient of unknown sign", "A coefficient keeps or turns curvature by its sign.", "gamma * kr.norm1(x)"),
    "D03": Code("a sum of convex and concave", "A sum is convex if all terms are, concave if all are.", "kr.norm1(x) + kr.min(x)"),
    "D04": Code("a composition that is not convex", "An atom keeps curvature only where it is monotone.", "kr.square(kr.max(x))"),
    "D05": Code(
        "an objective of the wrong sense", "Minimize what is convex, maximize what is concave.", "kr.Maximize(kr.norm1(x))"
    ),
    "D06": Code("an equality that is not affine", "Both sides of == are affine.", "kr.norm1(x) == 1"),
    "D07": Code("a square of a square", "Quadratic terms are only added and scaled.", "kr.max(kr.square(x))"),
    "D08": Code("quad_form without definiteness", "x' P x is convex if P is PSD, concave if P is NSD.", "kr.quad_form(x, P)"),
    "D09": Code("a constraint that is not convex", "convex <= concave.", "kr.norm1(x) >= 1"),
    "D10": Code("a quadratic constraint", "Quadratic terms stand in the objective only.", "kr.sum_squares(x) <= 1"),
    "D11": Code("a role that needs a sign", "Thresholds and weights are known to be nonnegative.", "kr.huber(x, p)"),
    "D12": Code("variables where data is needed", "Some arguments shape the function, and are data.", "kr.huber(x, y)"),
    "D13": Code("a constraint that is never satisfied", "Among constants, a constraint is true or false.", "kr.Constant(2) <= 1"),
    "D14": Code("a Euclidean norm that is not squared", "A norm is a second-order cone, its square is quadratic.", "kr.norm(x)"),
    "I01": Code("an unknown input", "Inputs have the names of the free parameters.", "layer(gama=1.0)"),
    "I02": Code("a missing input", "Every parameter needs a value.", "layer()"),
    "I03": Code(
        "a surplus input",
        "By position come no more inputs than there are parameters, and several only in a stated order.",
        "layer(1.0, 2.0, 3.0)",
    ),
    "I04": Code("an input given twice", "A parameter has one value per item.", "layer(1.0, gamma=2.0)"),
    "I05": Code(
        "an input of the wrong shape", "An input has shape batch + the shape of its parameter.", "layer(mu=torch.ones(3, 7))"
    ),
    "I06": Code("batches that do not fit", "The joint batch is the batch of at least one input.", "a (64, 1) beside a (64,)"),
    "I07": Code("an input that is not made of real numbers", "A quadratic program is over the reals.", "layer(1j * mu)"),
    "I08": Code("inputs on different devices", "A problem is solved where its data are.", "layer(a.cuda(), b)"),
    "I09": Code("an input that is no tensor", "Inputs are tensors, arrays and numbers.", "layer(x)"),
    "I10": Code("a weight given as an input", "Weights, and parameters bound to a value, live in the layer.", "layer(gamma=1.0)"),
    "I11": Code("a leaf of another model", "Leaves are told apart by identity.", "solution[kr.Variable(3)]"),
    "I12": Code(
        "something that the model does not have", "Solutions answer for their own variables and constraints.", 'solution["y"]'
    ),
    "I13": Code("an option that cannot be used", "Options have names and ranges.", 'on_failure="ignore"'),
    "I14": Code("a function that returns something else", "A kr.function returns the shape that it declares.", "shape=3"),
    "I15": Code("an initial value of a weight", "A weight starts from a value with its attributes.", "weights={gamma: -1.0}"),
    "I16": Code("half of a pair", "G comes with h, A with b.", "kr.solve_qp(Q, p, G)"),
    "I17": Code("a Q that is not positive definite", "check_Q_spd=True asks for it.", "QPFunction()(Q, p, G, h, A, b)"),
    "I18": Code("a value that cannot be bound", "A constant is finite and has the declared attributes.", "layer.bind(gamma=-1.0)"),
    "R01": Code("infeasible", "Some point satisfies all constraints.", "x >= 1, x <= 0"),
    "R02": Code("unbounded", "The objective does not improve for ever.", "kr.Minimize(x)"),
    "R03": Code("not solved within max_iter", "The iteration converges within max_iter.", "max_iter=1"),
    "R04": Code("broken down numerically", "The data stay within the arithmetic.", "data from 1e-300 to 1e300"),
    "R05": Code("data that cannot be used", "Values are finite and have their declared attributes.", "layer(torch.nan)"),
    "R06": Code("not convex", "Matrices of quadratic terms are positive semidefinite.", "kr.solve_qp(-Q, p)"),
    "R07": Code("solved inaccurately", 'With accept="solved", sqrt(eps) is not enough.', 'accept="solved"'),
    "X01": Code("not expressible in cvxpy", "cvxpy has no functions of parameters without values.", "problem.to_cvxpy()"),
    "X02": Code("a package is missing", "Some doors need an extra package.", "problem.to_cvxpy()"),
    "X03": Code("an atom that is not quadratic", "A quadratic program has no other cones.", "kr.from_cvxpy(problem)"),
    "X04": Code("not of the cvxpy problem", "An import answers for the problem that was read.", "imported[cp.Variable(3)]"),
    "X05": Code(
        "an argument of a drop-in", "A drop-in takes what its original takes, for quadratic programs.", "CvxpyLayer(..., gp=True)"
    ),
    "X06": Code(
        "not readable from sympy",
        "from_sympy takes sympy's expressions; strings are never evaluated.",
        'kr.from_sympy("x**2", ...)',
    ),
}
