"""Reads rows: from files, the study's release, the hub and the builtin suite.

Whatever the source, the result is `Example` rows of a `Task`. `sources.py` reads each kind of source, `shapes.py` turns
its rows into examples, `tasks.py` says which task a data set has, `load.py` reads a data set, and `catalogue.py` holds
the data sets of one experiment.
"""
