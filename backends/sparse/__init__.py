"""The sparse engine: batches of mid-size problems, or few large ones, whose matrices are mostly zeros.

pattern -> assembly (values on static patterns) -> ordering and symbolic analysis, once per structure -> batches side by side in the
programs of ``backends.cpu`` (``tables``, ``lanes``); few large problems, and what is left, item by item: interior point, polish,
residuals and certificates -> the derivative with the kept factors.
"""
