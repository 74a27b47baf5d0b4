"""``solver_args`` as written for the solvers behind cvxpylayers, read as options of karush.

karush's own names             as they are
tolerances of other solvers    the smallest one becomes ``eps``
everything else they know      accepted; it steers iterations that karush does not run
any other name                 an error that offers the nearest
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..backends.failure import input_error
from ..backends.options import Options

OWN = tuple(field.name for field in fields(Options) if field.name not in ("precision", "eps_abs"))
TOLERANCES = frozenset({
    "eps_abs", "eps_rel", "eps_infeas", "tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_infeas_abs", "tol_infeas_rel", "tol",
    "abstol", "reltol", "feastol",
})  # fmt: skip
STEERING = frozenset({
    "acceleration_interval", "acceleration_lookback", "adaptive_scale", "alpha", "canon_backend", "device", "direct_solve_method",
    "enforce_dpp", "equilibrate_enable", "gpu", "ignore_dpp", "max_iters", "max_step_fraction", "max_threads", "mode",
    "n_jobs_backward", "n_jobs_forward", "normalize", "presolve_enable", "raise_on_error", "rho_x", "scale", "solve_method",
    "solver", "static_regularization_constant", "time_limit", "time_limit_secs", "use_indirect", "use_quad_obj", "verbose",
    "warm_start", "warm_starts",
})  # fmt: skip


def read(solver_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of karush that these arguments ask for. Raises InputError for a name that no known solver has."""
    given = dict(solver_args or {})
    unknown = given.keys() - {*OWN, *TOLERANCES, *STEERING}
    if unknown:
        name = sorted(unknown)[0]
        near = difflib.get_close_matches(name, [*OWN, *TOLERANCES, *STEERING], 1)
        title = f"solver_args: unknown {name!r}{f', did you mean {near[0]!r}?' if near else ''}"
        raise input_error("I13", title, f"karush's own are {', '.join(OWN)}", f"write {near[0]!r}" if near else "leave it out")
    options = {name: value for name, value in given.items() if name in OWN}
    tolerances = [value for name, value in given.items() if name in TOLERANCES and value is not None]
    if tolerances and "eps" not in options:
        options["eps"] = min(tolerances)
    return options
