"""A pass on demand, between stuff and simplify: inputs become constants, and what they make constant is folded.

    expects    ParamQP as it was stuffed, and the values of the slots that depend on none of the inputs that stay
    promises   ParamQP without the other inputs, without the steps that nobody reads any more, and with every block, product
               and Gram whose parameters are known written out

Values are found by whoever can run a program; here they are arrays. Simplify comes after, so that a row which the constants leave
with a single variable becomes a bound.

The way home: sizes, columns, rows and multipliers stay what they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..dsl.keys import Frozen
from .blocks import Block, BlockBuilder, Gram
from .factors import Entries, Factor, Fixed, Floats, Term, chain, fixed, scaling
from .param_qp import Assumption, Gates, ParamQP
from .program import Program, Step

Array = NDArray[np.float64]


def specialize(problem: ParamQP, constants: Mapping[str, Array], known: Mapping[int, Array]) -> ParamQP:
    """Make inputs constants. ``constants``: their values by name; ``known``: those of slots, of these inputs among others."""
    used = _used(problem, known)
    numbers = _needed(problem.program, used, known)
    slots = _Slots(known, numbers)
    Q, p, constant = (BlockBuilder(*block.shape) for block in (problem.Q, problem.p, problem.constant))
    for builder, block in ((Q, problem.Q), (p, problem.p), (constant, problem.constant)):
        slots.add(builder, block)
    grams = [gram for gram in map(slots.gram, problem.grams) if not _expanded(gram, Q, p, constant)]
    gates = Gates(**{letter: gate for letter, block in problem.gates.blocks.items() if not _always(gate := slots.block(block))})
    bound = tuple(replace(item, default=Frozen(constants[item.name])) for item in problem.inputs if item.name in constants)
    return replace(
        problem,
        inputs=tuple(item for item in problem.inputs if item.name not in constants),
        bound=(*problem.bound, *bound),
        program=_program(problem.program, numbers, known),
        checks=tuple(replace(check, slot=numbers[check.slot]) for check in problem.checks if check.slot not in known),
        assumptions=tuple(_moved(fact, numbers) for fact in problem.assumptions if not settled(fact.slots, known)),
        Q=Q.finish(),
        p=p.finish(),
        constant=constant.finish(),
        grams=tuple(grams),
        gates=gates,
        G=slots.block(problem.G),
        h=slots.block(problem.h),
        A=slots.block(problem.A),
        b=slots.block(problem.b),
        lb=None if problem.lb is None else slots.block(problem.lb),
        ub=None if problem.ub is None else slots.block(problem.ub),
    )


def settled(slots: Iterable[int], known: Mapping[int, Any]) -> bool:
    """Whether a fact about these slots is decided."""
    return all(slot in known for slot in slots)


def _moved(fact: Assumption, numbers: Mapping[int, int]) -> Assumption:
    active = None if fact.active is None else numbers[fact.active]
    return replace(fact, left=numbers[fact.left], right=numbers[fact.right], active=active)


def _used(problem: ParamQP, known: Mapping[int, Array]) -> list[int]:
    """Slots that something reads at every call."""
    blocks = [*problem.blocks.values(), *problem.gates.blocks.values()]
    blocks += [part for gram in problem.grams for part in (gram.E, gram.e, gram.weight)]
    slots = [slot for block in blocks for slot in block.slots if slot not in known]
    slots += [gram.P.slot for gram in problem.grams if isinstance(gram.P, Entries) and gram.P.slot not in known]
    slots += [check.slot for check in problem.checks if check.slot not in known]
    return slots + [slot for fact in problem.assumptions if not settled(fact.slots, known) for slot in fact.slots]


def _needed(program: Program, used: Iterable[int], known: Mapping[int, Array]) -> dict[int, int]:
    """The steps that stay, and the numbers of their slots: what is used, and what that is computed from; inputs always."""
    bound = {slot for slot in known if program.steps[slot].op == "input"}
    needed = {slot for slot, step in enumerate(program.steps) if step.op == "input"} - bound | set(used)
    for slot in reversed(range(len(program.steps))):
        if slot in needed and slot not in known:
            needed.update(program.steps[slot].args)
    return {slot: number for number, slot in enumerate(sorted(needed))}


def _program(program: Program, numbers: Mapping[int, int], known: Mapping[int, Array]) -> Program:
    steps = []
    for slot in numbers:
        step = program.steps[slot]
        if slot in known:
            steps.append(Step("constant", (), (("value", Frozen(known[slot])),), step.shape))
        else:
            steps.append(replace(step, args=tuple(numbers[argument] for argument in step.args)))
    return Program(tuple(steps), tuple(numbers[slot] for slot in program.outputs if slot in numbers))


@dataclass(frozen=True)
class _Slots:
    """Blocks and factors over the new program."""

    known: Mapping[int, Array]
    numbers: Mapping[int, int]

    def block(self, block: Block) -> Block:
        if block.fixed:
            return block
        builder = BlockBuilder(*block.shape)
        self.add(builder, block)
        return builder.finish()

    def add(self, builder: BlockBuilder, block: Block) -> None:
        builder.add((Fixed(block.constant),))
        for entries in block.entries:
            builder.add((self.factor(entries),))
        for placed in block.products:
            builder.add(chain(*map(self.factor, placed.term)), placed.row, placed.col)

    def factor(self, factor: Factor) -> Factor:
        if isinstance(factor, Fixed):
            return factor
        if factor.slot not in self.known:
            return replace(factor, slot=self.numbers[factor.slot])
        values = factor.weight * self.known[factor.slot].reshape(-1)[factor.source]
        matrix = sparse.csr_array((values, (factor.rows, factor.cols)), shape=factor.shape)
        matrix.eliminate_zeros()
        return Fixed(matrix)

    def gram(self, gram: Gram) -> Gram:
        middle = None if gram.P is None else self.factor(gram.P)
        return Gram(self.block(gram.E), self.block(gram.e), self.block(gram.weight), middle)


def _expanded(gram: Gram, Q: BlockBuilder, p: BlockBuilder, constant: BlockBuilder) -> bool:
    """Whether E is constant now: then the square goes the way it would have gone when the problem was stuffed.

    2 E'WE, 2 E'We and e'We as chains of factors, W = diag(weight) P a sum of them.
    """
    if not gram.E.fixed or gram.weight.products:
        return False
    E, size = Fixed(gram.E.constant), gram.E.shape[0]
    offsets = _columns(gram.e)
    for weight in _columns(gram.weight):
        (column,) = weight
        W = chain(_diagonal(column, size), *([] if gram.P is None else [gram.P]))
        Q.add(chain(E.T, *W, E), scale=2.0)
        for e in offsets:
            p.add(chain(E.T, *W, *e), scale=2.0)
            for other in offsets:
                constant.add(chain(*(factor.T for factor in reversed(other)), *W, *e))
    return True


def _columns(block: Block) -> list[Term]:
    """A column as a sum of terms of its full height."""
    height = block.shape[0]
    terms: list[Term] = [(Fixed(block.constant),)] if block.constant.nnz else []
    terms += [(entries,) for entries in block.entries]
    for placed in block.products:
        rows = placed.term[0].shape[0]
        place = fixed(sparse.eye_array(height, rows, k=-placed.row))
        terms.append(chain(place, *placed.term))
    return terms


def _diagonal(weight: Factor, size: int) -> Factor:
    """A column of weights as a diagonal matrix; one weight alone serves all rows."""
    each = size // weight.shape[0]
    if isinstance(weight, Fixed):
        values: Floats = weight.matrix.toarray()[:, 0]
        return scaling(np.repeat(values, each))
    at = (weight.rows[:, None] * each + np.arange(each)).reshape(-1)
    return Entries(weight.slot, at, at, np.repeat(weight.source, each), np.repeat(weight.weight, each), (size, size))


def _always(gate: Block) -> bool:
    """Whether every row exists, whatever is passed."""
    return gate.fixed and bool((gate.constant.toarray() == 1).all())
