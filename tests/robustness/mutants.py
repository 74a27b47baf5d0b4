"""Mistakes that somebody could make, each with the fast test that must notice it: file, text, what it becomes, test.

The text must occur exactly once in its file. Whoever rewrites the line rewrites the mistake, too.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """``old`` becomes ``new`` in a file of the package, and ``test`` must fail."""

    what: str
    file: str
    old: str
    new: str
    test: str


DENSE = "engine/test_gradients.py::test_adjoint_against_an_independent_dense_solve"
EVERY = "engine/test_gradients.py::test_every_output_by_every_input_to_second_order"
SUMS = "engine/test_gradients.py::test_gradient_of_a_shared_input_is_the_sum"
CLARABEL = "engine/test_solutions.py::test_agrees_with_clarabel_and_with_construction"
ORACLE = "layer/test_oracle.py::test_solutions_objectives_and_duals"
BLOCKS = "compiler/test_canonical.py::test_blocks_are_the_derivatives"
SICK = "load/test_mates.py::test_a_sick_mate_changes_no_bit"
RAYS = "engine/test_failures.py::test_infeasible"
RESIDUALS = "robustness/test_residuals.py::test_every_component"
SYSTEM = "sparse/test_side_by_side.py::test_what_is_kept_solves_the_optimality_system"

MUTANTS = (
    # the derivative, in torch
    Mutant("sign of dh", "backends/adjoint.py", "dh = summed_like(h, l_z + g_s)", "dh = summed_like(h, -l_z + g_s)", EVERY),
    Mutant("sign of db", "backends/adjoint.py", "db = summed_like(b, l_y)", "db = summed_like(b, -l_y)", EVERY),
    Mutant(
        "half of dQ",
        "backends/adjoint.py",
        "dQ = outer_like(Q, -l_x / 2, x, x, -l_x / 2)",
        "dQ = outer_like(Q, -l_x / 2, x, 0 * x, -l_x / 2)",
        EVERY,
    ),
    Mutant(
        "slack forgotten in dG",
        "backends/adjoint.py",
        "dG = outer_like(G, -(l_z + g_s), x, -z, l_x)",
        "dG = outer_like(G, -l_z, x, -z, l_x)",
        EVERY,
    ),
    Mutant(
        "sign of the multiplier of lb",
        "backends/adjoint.py",
        "g_w = torch.where(upper, g_ub, 0) - torch.where(lower, g_lb, 0)",
        "g_w = torch.where(upper, g_ub, 0) + torch.where(lower, g_lb, 0)",
        EVERY,
    ),
    Mutant(
        "bounds of free variables",
        "backends/adjoint.py",
        "dlb = summed_like(lb, torch.where(lower, l_w, 0))",
        "dlb = summed_like(lb, torch.where(upper, l_w, 0))",
        EVERY,
    ),
    Mutant(
        "second derivative: sign of dA",
        "backends/adjoint.py",
        "dA = outer_like(A, -l_y, u_x, -u_y, l_x)",
        "dA = outer_like(A, l_y, u_x, -u_y, l_x)",
        EVERY,
    ),
    # the derivative, compiled
    Mutant("sign of dh, compiled", "backends/compiled.py", "dG, summed_like(h, l_z)", "dG, summed_like(h, -l_z)", DENSE),
    Mutant("sign of db, compiled", "backends/compiled.py", "dA, summed_like(b, l_y)", "dA, summed_like(b, -l_y)", DENSE),
    Mutant("sign of dp, compiled", "backends/compiled.py", "dQ, summed_like(p, d_x)", "dQ, summed_like(p, -d_x)", DENSE),
    Mutant(
        "sign of z_lb, compiled",
        "backends/compiled.py",
        "(g_lb, 0, -1.0)",
        "(g_lb, 0, 1.0)",
        "robustness/test_odd_data.py::test_multipliers_of_bounds_have_gradients",
    ),
    Mutant(
        "items that are left count as solved",
        "backends/cpu/engine.py",
        'ctypes.memset(addresses["sure"], 0, frame.B)',
        'ctypes.memset(addresses["sure"], 1, frame.B)',
        "engine/test_direct.py::test_what_is_not_solved_goes_the_long_way",
    ),
    Mutant(
        "gradients of y and z exchanged, the short way",
        "backends/direct.py",
        "g_x, g_y, g_z, g_s, *others = grads",
        "g_x, g_z, g_y, g_s, *others = grads",
        "engine/test_direct.py::test_the_same_bits_as_in_full",
    ),
    Mutant("dG of a shared block, compiled", "backends/compiled.py", "return -l_w, x, w, d_x", "return -l_w, x, -w, d_x", SUMS),
    Mutant(
        "failed items are not masked, compiled",
        "backends/adjoint.py",
        "data.blocks, point, held, grads[:5]",
        "data.blocks, point, held._replace(ok=torch.ones_like(held.ok)), grads[:5]",
        "engine/test_failures.py::test_return_gives_a_finite_iterate_and_no_gradient",
    ),
    Mutant(
        "NaN from above is not dropped",
        "backends/adjoint.py",
        "torch.zeros_like(like) if grad is None else torch.where(ok, grad, 0)",
        "torch.zeros_like(like) if grad is None else grad",
        SICK,
    ),
    Mutant(
        "refinement goes on with the slowest",
        "backends/linear.py",
        "going = going & (error > ACCURATE[dtype] * first)",
        "going = going & (error > ACCURATE[dtype] * first).any()",
        "load/test_mates.py::test_a_mate_whose_refinement_takes_longer_changes_no_bit",
    ),
    # sparse matrices, side by side
    Mutant(
        "products of rows set apart are subtracted",
        "backends/cpu/quasidefinite.py",
        '_add(t, p, "given", given[entry], given[entry + 1], total, L, L)',
        '_add(t, p, "given", given[entry], given[entry + 1], total, L, L, -1.0)',
        SYSTEM,
    ),
    Mutant("sign of rows set apart", "backends/cpu/quasidefinite.py", "v[j] = -v[j]", "v[j] = v[j] * 1.0", SYSTEM),
    Mutant(
        "weights of inequalities count as fixed",
        "backends/sparse/tables.py",
        "np.bincount(target[s.W.rows[left] < s.k], minlength=len(row))",
        "np.bincount(target[s.W.rows[left] >= 0], minlength=len(row))",
        SYSTEM,
    ),
    Mutant(
        "a start of other items",
        "backends/data.py",
        "WarmStart(*(part[items] for part in",
        "WarmStart(*(part[: len(items)] for part in",
        "sparse/test_side_by_side.py::test_the_starts_of_a_shuffled_batch",
    ),
    # sums over a batch
    Mutant(
        "mean for sum",
        "backends/products.py",
        "grad.sum(0, keepdim=True)",
        "grad.mean(0, keepdim=True)",
        "robustness/test_odd_data.py::test_every_subset_of_shared_blocks",
    ),
    Mutant(
        "mean for sum of matrices",
        "backends/products.py",
        "(torch.cat([a, c]).mT @ torch.cat([b, d])).unsqueeze(0)",
        "(torch.cat([a, c]).mT @ torch.cat([b, d])).unsqueeze(0) / len(a)",
        SUMS,
    ),
    # what is called solved
    Mutant("absolute tolerance for the dual", "backends/residuals.py", "_worst(dual / dual_size)", "_worst(dual)", RESIDUALS),
    Mutant(
        "floor of one",
        "backends/residuals.py",
        "columns = (X * self.largest + self.p).clamp_(max=1)",
        "columns = torch.ones_like(X * self.largest + self.p)",
        RESIDUALS,
    ),
    Mutant("equalities from above only", "backends/residuals.py", "excess[:, :k].abs()", "excess[:, :k].clamp(min=0)", RESIDUALS),
    Mutant(
        "the gap does not count",
        "backends/residuals.py",
        "_worst(dual / dual_size), gap / gap_size)",
        "_worst(dual / dual_size), 0 * gap)",
        RESIDUALS,
    ),
    Mutant("residuals follow the mates", "backends/engine.py", "torch.where(sure.unsqueeze(1), fair, plain)", "plain", SICK),
    # certificates
    Mutant(
        "a ray may be off by a hundredth",
        "backends/certificates.py",
        "ZERO = {torch.float64: 1e-12",
        "ZERO = {torch.float64: 1e-2",
        "robustness/test_verdicts.py::test_little_curvature_is_not_none",
    ),
    Mutant(
        "rays are never believed",
        "backends/certificates.py",
        "torch.where(infeasible, int(Status.PRIMAL_INFEASIBLE), status[items])",
        "status[items]",
        RAYS,
    ),
    Mutant(
        "bounds absorb with the wrong sign",
        "backends/certificates.py",
        "torch.where(part.lower, drift.clamp(min=0), 0)",
        "torch.where(part.lower, (-drift).clamp(min=0), 0)",
        RAYS,
    ),
    # screening
    Mutant(
        "minus infinity as a right-hand side",
        "backends/screen.py",
        "torch.isnan(h) | (h == -torch.inf)",
        "torch.isnan(h)",
        "engine/test_failures.py::test_values_that_mean_nothing",
    ),
    Mutant(
        "an absent row is dropped by its value only",
        "backends/screen.py",
        "G = torch.where(absent.unsqueeze(2), 0, W[:, k:])",
        "G = W[:, k:]",
        "engine/test_solutions.py::test_absent_rows_leave_the_reduced_problem",
    ),
    Mutant(
        "Q is not symmetrised",
        "backends/screen.py",
        "Q = (data.Q + data.Q.mT).div_(2)",
        "Q = data.Q.clone()",
        "engine/test_solutions.py::test_asymmetric_hessian_is_read_as_its_symmetric_part",
    ),
    # the compiler
    Mutant("sign of right-hand sides", "canon/stuff.py", "c.add(term, first, scale=-1.0)", "c.add(term, first, scale=1.0)", BLOCKS),
    Mutant(
        "a row is dropped",
        "canon/stuff.py",
        "height = sum(row.affine.rows for row in rows)\n",
        "rows = rows[:-1] if len(rows) > 1 else rows\n    height = sum(row.affine.rows for row in rows)\n",
        ORACLE,
    ),
    Mutant(
        "the two of a Gram product",
        "canon/stuff.py",
        "Q.add(chain(E.T, *W, E), scale=2.0)",
        "Q.add(chain(E.T, *W, E), scale=1.0)",
        BLOCKS,
    ),
    Mutant("the constant term", "canon/stuff.py", "constant.add(chain(*transposed(other), *W, *e))", "pass", ORACLE),
    Mutant("a negated coefficient", "canon/extract.py", "weight = -weight", "weight = +weight", BLOCKS),
    Mutant(
        "a negated matrix",
        "canon/extract.py",
        "matrix = Entries(slot, row, column, source, weight, (height, width))",
        "matrix = Entries(slot, row, column, source, abs(weight), (height, width))",
        "robustness/test_laws.py::test_coefficients_that_are_moved_twice_and_negated",
    ),
    Mutant(
        "entries in another order",
        "canon/extract.py",
        "source = move[source]",
        "source = source[move]",
        "robustness/test_laws.py::test_coefficients_that_are_moved_twice_and_negated",
    ),
    # one process is not another
    Mutant(
        "a pool survives a fork",
        "backends/cpu/threads.py",
        "_pool(threads - 1, os.getpid())",
        "_pool(threads - 1, 0)",
        "load/test_same_bits.py::test_a_fork_after_threads_were_at_work",
    ),
    Mutant(
        "kept code is trusted",
        "backends/cpu/machine.py",
        "if hashlib.sha256(content[32:]).digest() == content[:32] else None",
        "",
        "security/test_kept_code.py::test_damaged_files",
    ),
)
