"""Arrays of scores become intervals, p-values and corrections for many comparisons.

Comes in: NumPy arrays. Goes out: intervals and p-values. Nothing here knows a cell, a model or a file. Read
`intervals`, `permutation`, `levels`, `families` in this order; a new interval or test goes into one of them.
`docs/statistics.md` explains them, with the simulations that check them.
"""
