"""The CPU engine: one native call solves a batch, on the vector registers of the machine at hand.

The method is written once, in the small language of ``llvm``: ``problem``, ``interior_point``, ``polish`` and ``derivative`` are
its programs, ``solve`` puts them together. Many small problems lie side by side (``matrices``), few or large ones along their rows
(``within``); sparse ones lie side by side, listed by their entries (``patterned``). ``machine`` compiles and keeps the code,
``engine`` calls it.
"""
