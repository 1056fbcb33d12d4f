"""A plan becomes stored cells: what is missing is trained, asked and checked.

Comes in: a plan and a store. Goes out: cells, variants and receipts in the store, and a line for each failure.
`execute.py` goes from variant to variant. `inspect.py` proves that a variant is the one that was trained, and
measures how far it moved. `base_check.py` asks the base before a run. `pool.py` gives variants to
processes of their own, on several devices (`processes.py`) or on the nodes of a Ray cluster (`cluster.py`).

To replace training or answering as a whole, give `execute` another `Backend` (`backend.py`).
"""
