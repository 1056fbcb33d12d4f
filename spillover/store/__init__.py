"""Cells, receipts and trained variants are kept in the output folder, whole or not at all.

Comes in: predictions, receipts and weights, under the keys of the plan. Goes out: the same, if they still count:
whether a cell is valid is asked of the store, never of a file. No other room knows a path inside the folder.

A store is opened by its path or its URL (`open.py`). One at a URL is an ordinary store in a local copy, which publishes
and fetches (`mirrored.py`); `objects.py` speaks to the storage, `leases.py` lets one process at a time write a variant.

To keep a new kind of file, draw it in the docstring of `store.py` and add its methods there, in `cells.py` or in
`variants.py`. `folder.py` reads, checks, writes and locks: a file that a number rests on is sealed there.
"""
