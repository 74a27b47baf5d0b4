"""One forward and backward pass of a large batch in a process of its own: prints what it took, and the results to compare.

python -m load.memory <what> <B> <engine>: ``what`` is matrices that are "shared" or "batched", or a "layer".
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

import karush as kr

F = torch.float64
SIZES = N, M, K = 20, 40, 5
FIXED = 24 * 2**20  # of interpreter, allocator and working memory, whatever the batch


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> int:
    """Of this program alone: what getrusage tells begins with the size of the process that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def bound(engine: str, B: int, numbers: int, of_matrices: int) -> int:
    """What docs/layer.md promises, in bytes; ``numbers``: of one item's own inputs, ``of_matrices`` those of Q, G and A."""
    n, m, k = SIZES
    if engine == "cpu":
        kept, passes = n * n + 3 * n + 4 * m + 2 * k + 11, 3 * (n + m + k)
    else:
        kept, passes = 2 * (n * n + 8 * n + 5 * m + 3 * k + 12), 9 * (n + m + k) + of_matrices
    return FIXED + 8 * B * (kept + passes + 2 * numbers)


def problems(what: str, B: int) -> list[Tensor]:
    """Of one strictly convex, feasible family; item i is the same whatever B is."""
    drawn = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=F, generator=drawn)

    root, G, A = normal(N, N), normal(M, N), normal(K, N)
    Q = root @ root.mT / N + torch.eye(N, dtype=F)
    t = torch.arange(B, dtype=F)[:, None]
    p = (t + torch.arange(N)).sin()
    # 1.6: every item is proved at once; one that is left to the torch engine takes all factors along.
    h, b = 1.6 + (t * 0.7 + torch.arange(M)).sin(), 0.1 * (t * 0.3 + torch.arange(K)).sin()
    if what == "batched":
        Q, G, A = (block.expand(B, *block.shape).clone() for block in (Q, G, A))
    return [Q, p, G, h, A, b]


def solved(what: str, B: int, engine: str) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Inputs, x, and the gradients of the batched inputs."""
    blocks = problems(what, B)
    if what == "layer":
        x = kr.Variable(N, name="x")
        p, h, b = kr.Parameter(N, name="p"), kr.Parameter(M, name="h"), kr.Parameter(K, name="b")
        Q, G, A = (blocks[i].numpy() for i in (0, 2, 4))
        problem = kr.Problem(kr.Minimize(kr.quad_form(x, Q) / 2 + p @ x), {"rows": G @ x <= h, "plane": A @ x == b})
        leaves = [t.requires_grad_() for t in (blocks[1], blocks[3], blocks[5])]
        s = kr.compile(problem, backend=cast(Any, engine), outputs=["x", kr.dual("rows")])
        found, z = s({"p": leaves[0], "h": leaves[1], "b": leaves[2]})
    else:
        leaves = [t.requires_grad_() for t in blocks]
        solution = kr.solve_qp(*leaves, backend=cast(Any, engine))
        found, z = solution.x, solution.z
    (found.square().sum() + z.sum()).backward()
    gradients = [cast(Tensor, t.grad) for t in leaves if len(t) == B]
    return leaves, found.detach(), gradients


def main(what: str, B: int, engine: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    solved(what, 64, engine)  # code is compiled, pools are filled
    own = [t[0] for t in problems(what, 2) if len(t) == 2]
    numbers, of_matrices = (sum(t.numel() for t in own if t.dim() >= dim) for dim in (1, 2))
    numbers *= 1 + (what == "layer")  # parameters, and the blocks that are made of them
    before = resident()
    _, x, gradients = solved(what, B, engine)
    taken = peak() - before
    worst = 0.0
    for start in (0, B // 3, B - 50):
        own_x, own = solved_part(what, B, start, engine)
        for whole, part in zip((x, *gradients), (own_x, *own), strict=True):
            worst = max(worst, float((whole[start : start + 50] - part).abs().max() / part.abs().max()))
    return {"taken": taken, "bound": bound(engine, B, numbers, of_matrices), "worst": worst, "spread": float(x.std(0).min())}


def solved_part(what: str, B: int, start: int, engine: str) -> tuple[Tensor, list[Tensor]]:
    """Fifty of the items in a batch of their own, as matrices."""
    own = [t[start : start + 50].clone() if len(t) == B else t for t in problems("shared" if what == "layer" else what, B)]
    leaves = [t.requires_grad_() for t in own]
    s = kr.solve_qp(*leaves, backend=cast(Any, engine))
    (s.x.square().sum() + s.z.sum()).backward()
    return s.x.detach(), [cast(Tensor, t.grad) for t in leaves if len(t) == 50]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
