"""What runs: engines, KKT systems, the adjoint, and the torch module."""
