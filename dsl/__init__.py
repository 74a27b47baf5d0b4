"""What the user writes: expressions, atoms, curvature rules, problems, diagnostics. Framework-free."""
