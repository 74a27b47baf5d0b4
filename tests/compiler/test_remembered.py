"""Problems of one structure share a canonical form, and nothing else."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from fuzz.models import model
from karush.canon import canonicalize as pipeline
from karush.canon.canonicalize import REMEMBERED, Canonical, canonicalize

F = torch.float64


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    REMEMBERED.clear()
    yield
    REMEMBERED.clear()


def ridge(name: str = "x", of: str = "c", weight: float = 2.0, row: str = "cap", top: float = 9.0) -> kr.Problem:
    """x = 2 weight c / (2 weight + 2), where nothing is in its way."""
    x, c = kr.Variable(3, name=name), kr.Parameter(3, name=of)
    return kr.Problem(kr.Minimize(weight * kr.sum_squares(x - c) + kr.sum_squares(x)), {row: kr.sum(x) <= top})


def anew(problem: kr.Problem) -> Canonical:
    """As if nothing had been compiled before."""
    REMEMBERED.clear()
    return canonicalize(problem)


def test_equal_problems_share_one_form() -> None:
    first, second = canonicalize(ridge()), canonicalize(ridge())
    assert second.qp is first.qp
    assert second.stuffed is first.stuffed


def test_the_layers_that_share_it_are_their_own() -> None:
    for weight in (2.0, 3.0):
        problem = ridge(weight=weight)
        c = torch.tensor([1.0, -2.0, 0.5], dtype=F)
        for _ in range(2):
            torch.testing.assert_close(kr.compile(problem)(c)["x"], weight * c / (weight + 1))


@pytest.mark.parametrize("seed", range(60))
def test_random_models_have_the_form_that_they_would_have_alone(seed: int) -> None:
    """Written twice: other keys, other places. And once more under other names."""
    first = canonicalize(model(seed).problem)
    again = model(seed).problem
    assert canonicalize(again).qp is first.qp or any(step.op == "function" for step in first.qp.program.steps)
    other = model(seed).problem
    for place, leaf in enumerate([*other.variables.values(), *other.parameters.values()]):
        leaf.name = f"leaf{place}"
    rows = {f"row {place}": constraint for place, constraint in enumerate(other.constraints.values())}
    other = kr.Problem(cast(kr.Minimize, other.objective), rows)
    fast, slow = canonicalize(other), anew(other)
    assert str(fast.qp) == str(slow.qp)
    assert fast.qp.digest == slow.qp.digest
    assert fast.stuffed.digest == slow.stuffed.digest
    assert (fast.text, fast.function_names, list(fast.functions)) == (slow.text, slow.function_names, list(slow.functions))


def test_names_are_those_of_the_new_problem() -> None:
    kr.compile(ridge())
    layer = kr.compile(ridge("y", "d", row="roof"))
    solution = layer(d=[9.0, 9.0, 9.0])
    torch.testing.assert_close(solution["y"], torch.full((3,), 3.0))
    assert solution.dual("roof") > 0
    assert "roof" in repr(solution.explain())
    assert "d" in str(layer.explain())


def test_places_are_those_of_the_new_problem() -> None:
    x, c = kr.Variable(name="x", nonneg=True), kr.Parameter(name="c")
    first = kr.Problem(kr.Minimize(kr.square(x)), {"low": x <= c})
    y, d = kr.Variable(name="x", nonneg=True), kr.Parameter(name="c")
    second = kr.Problem(kr.Minimize(kr.square(y)), {"low": y <= d})
    layers = kr.compile(first), kr.compile(second)
    assert layers[0]._qp is layers[1]._qp
    lines = [{place.line for span in layer._spans.values() if span and (place := span.resolve())} for layer in layers]
    assert lines[0]
    assert not lines[0] & lines[1]
    assert layers[1](1.0)[y] == layers[0](1.0)[x] == 0  # each knows its own leaves
    with pytest.raises(kr.InputError, match="another model"):
        layers[1](1.0)[x]


def test_constants_count_by_content() -> None:
    for size in (3, 300):
        a, b = np.ones(size), np.ones(size)
        b[-1] = np.nextafter(1, 2)

        def problem(value: np.ndarray[tuple[int], np.dtype[np.float64]], size: int = size) -> kr.Problem:
            x = kr.Variable(size, name="x")
            return kr.Problem(kr.Minimize(kr.sum_squares(x - value)))

        first = canonicalize(problem(a))
        assert canonicalize(problem(a.copy())).qp is first.qp
        assert canonicalize(problem(b)).qp != first.qp


def test_what_is_declared_counts() -> None:
    def problem(**declared: Any) -> kr.Problem:
        x, c = kr.Variable(2, name="x"), kr.Parameter(2, name="c", **declared)
        return kr.Problem(kr.Minimize(kr.sum_squares(x - c)))

    kinds: list[dict[str, Any]] = [
        {},
        {"nonneg": True},
        {"bounds": [0, 1]},
        {"bounds": [0, 2]},
        {"value": [1, 2]},
        {"value": [1, 3]},
    ]
    forms = [canonicalize(problem(**declared)).qp.digest for declared in kinds]
    assert len(set(forms)) == len(kinds)
    assert forms == [canonicalize(problem(**declared)).qp.digest for declared in kinds]


def test_shared_leaves_are_told_from_separate_ones() -> None:
    def problem(shared: bool) -> kr.Problem:
        x, a = kr.Variable(name="x"), kr.Parameter(name="a")
        b = a if shared else kr.Parameter(name="b")
        return kr.Problem(kr.Minimize(kr.square(x - a - b)))

    assert canonicalize(problem(True)).qp != canonicalize(problem(False)).qp


def scaled(function: Callable[[Tensor], Tensor]) -> kr.Problem:
    x, c = kr.Variable(2, name="x"), kr.Parameter(2, name="c")
    return kr.Problem(kr.Minimize(kr.sum_squares(x - kr.function(function, c, shape=2))))


def times(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda t: factor * t


def test_functions_count_by_identity() -> None:
    def twice(t: Tensor) -> Tensor:
        return 2 * t

    c = torch.ones(2, dtype=F)
    assert canonicalize(scaled(twice)).qp is canonicalize(scaled(twice)).qp
    for factor in (3.0, 4.0):  # one piece of code, two functions
        assert kr.compile(scaled(times(factor)))(c)["x"].tolist() == [factor] * 2
    layer = kr.compile(scaled(twice))
    assert layer(c)["x"].tolist() == [2.0, 2.0]


def test_an_identity_that_was_given_away_is_no_function() -> None:
    """Functions are not kept alive, and one that stands where another was is not taken for it."""
    c, found = torch.ones(2, dtype=F), []
    for factor in range(30):
        layer = kr.compile(scaled(times(factor)))
        found.append(float(layer(c)["x"][0]))
        del layer
        gc.collect()
    assert found == [float(factor) for factor in range(30)]


def test_networks_are_not_kept_alive() -> None:
    import weakref

    net = torch.nn.Linear(2, 2).double()
    layer = kr.compile(scaled(net))
    ref = weakref.ref(net)
    del net, layer
    gc.collect()
    assert ref() is None


def test_weights_are_never_remembered() -> None:
    for start in (1.0, 2.0):
        problem = ridge()
        layer = kr.compile(problem, weights={"c": torch.full((3,), start)})
        assert layer.weight("c").tolist() == [start] * 3
        with torch.no_grad():
            layer.get_parameter("c").fill_(7.0)


def test_the_number_of_forms_is_bounded() -> None:
    for top in range(100):
        canonicalize(ridge(top=float(top)))
    assert len(REMEMBERED) == 64
    first = canonicalize(ridge(top=0.0)).qp
    assert first is canonicalize(ridge(top=0.0)).qp


def test_threads_may_compile_at_once() -> None:
    c = torch.tensor([1.0, -2.0, 0.5], dtype=F)
    wrong: list[object] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(30):
            weight = float(rng.integers(1, 5))
            found = kr.compile(ridge(weight=weight), backend="torch")(c)["x"]
            if not torch.allclose(found, weight * c / (weight + 1)):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_second_compile_does_none_of_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    kr.compile(ridge())
    monkeypatch.setattr(pipeline, "expand", None)
    kr.compile(ridge())
