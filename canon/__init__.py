"""What the compiler does: passes from a problem to the canonical parametric QP. Framework-free."""
