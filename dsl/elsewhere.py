"""What users of other libraries look for on a model or a solution, and where it is here.

One table for each kind of thing, from the attribute to ways of mending the line that asked for it. ``{0}`` stands for the thing in
the user's words, ``{1}`` for the same beside an operator.
"""

from __future__ import annotations

from collections.abc import Mapping

FORMULA = "expressions are formulas: they hold no values, and a solution is asked for them"
STATEMENT = "constraints are statements: they hold no values, and a solution is asked for them"
MODEL = "a problem is what was written: it holds no values, and every solve returns a solution of its own"
ASKED = "a solution is asked by what it solves for"
METHODS = "the methods of an expression are sum mean max min ptp var cumsum trace reshape flatten; all else is a function"
NAMES = "names are given where something is made, for expressions are immutable"

OF_EXPRESSIONS: Mapping[str, str] = {
    "value": "a solution has it: solution[{0}]",
    "grad": "gradients flow into the tensors that were passed in",
    "dual_value": "a solution has it: solution.dual(constraint)",
    "item": "a solution has it: solution[{0}].item()",
    "numpy": "a solution has it: solution[{0}].numpy()",
    "detach": "a solution has it: solution[{0}].detach()",
    "std": "of variables it is a second-order cone; its square is quadratic: {1}.var()\nof data write kr.std({0})",
    "prod": "of variables a product is not convex\nof data write kr.prod({0})",
    "dot": "write {1} @ other",
    "norm": 'write kr.norm({0}, 1), kr.norm({0}, "inf") or kr.norm({0})**2',
    "abs": "write abs({0})",
    "transpose": "write {1}.T, or kr.transpose({0}, axes)",
    "mT": "write kr.swapaxes({0}, -1, -2)",
    "swapaxes": "write kr.swapaxes({0}, axis1, axis2)",
    "squeeze": "write kr.squeeze({0})",
    "ravel": "write {1}.flatten()",
    "set_label": "a variable or parameter takes name=...; a constraint is named by the problem: {{'budget': constraint}}",
}
OF_CONSTRAINTS: Mapping[str, str] = {
    "dual_value": "a solution has it: solution.dual(constraint)",
    "dual_variables": "a solution has them: solution.dual(constraint)",
    "value": "at a solution or any other point: kr.evaluate(constraint.violation(), {{x: point}})",
    "set_label": "name it in the problem: kr.Problem(objective, {{'budget': constraint}})",
    "name": "name it in the problem: kr.Problem(objective, {{'budget': constraint}})",
    "expr": "write constraint.residual, which is to be zero or nonpositive",
    "args": "write constraint.left and constraint.right",
    "is_dcp": "a problem says so when it is made: kr.Problem(objective, [constraint])",
}
OF_PROBLEMS: Mapping[str, str] = {
    "value": "write solution = problem.solve(...), and solution.objective",
    "status": "write solution = problem.solve(...), and solution.status",
    "solution": "write solution = problem.solve(...)",
    "solver_stats": "write solution = problem.solve(...), and solution.stats()",
    "get_problem_data": "write kr.compile(problem).standard_form(...)",
}
OF_SOLUTIONS: Mapping[str, str] = {
    "value": "write solution.objective for the optimal value, solution[x] for that of a variable",
    "dual_value": "write solution.dual(constraint)",
}
WHY: Mapping[str, str] = {
    **dict.fromkeys(("std", "prod", "dot", "norm", "abs", "transpose", "mT", "swapaxes", "squeeze", "ravel"), METHODS),
    **dict.fromkeys(("set_label", "name"), NAMES),
}
