"""The CPU engine: one native call solves a batch, with problems side by side in the lanes of the machine's vector registers.

The method is written once, in the small language of ``lanes``: ``matrices``, ``problem``, ``interior_point``, ``polish`` and
``derivative`` are its programs. ``llvm`` prints them as machine code, ``machine`` compiles and keeps it, ``engine`` calls it.
"""
