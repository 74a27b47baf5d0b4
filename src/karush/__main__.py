"""`python -m karush`: versions, devices and engines, which is what a bug report needs."""

from __future__ import annotations

import importlib.metadata
import platform

import torch

from .backends.cpu import machine

# Beside what karush needs itself: the solvers and oracles whose version could explain a difference.
LIBRARIES = ("karush", "torch", "numpy", "scipy", "llvmlite", "cvxpy", "clarabel")


def report() -> dict[str, str]:
    """What is installed and what it can run on; nothing about the user, no paths."""
    facts = {name: _version(name) for name in LIBRARIES}
    facts["python"] = f"{platform.python_version()} ({platform.python_implementation()})"
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["devices"] = ", ".join(_devices())
    facts["threads"] = str(torch.get_num_threads())
    facts["engines"] = f"cpu ({machine.lanes().W} lanes), sparse, torch"
    kept = machine.kept()
    facts["cache"] = "off" if kept is None else f"{len(kept)} files, {sum(kept) / 2**20:.1f} MiB"
    return facts


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> list[str]:
    gpus = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


if __name__ == "__main__":
    for name, fact in report().items():
        print(f"{name:<9} {fact}")
