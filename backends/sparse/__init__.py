"""The sparse engine: few large problems, or batches of mid-size ones, whose matrices are mostly zeros.

pattern -> assembly (values on static patterns) -> ordering and symbolic analysis, once per structure -> interior point, polish,
residuals and certificates item by item -> the derivative with the kept factor.
"""
