"""Files, hub data sets, the study's release and generated suites become rows of a task.

Comes in: the sources that an experiment names. Goes out: `Example` rows of a `Task`, with what was left out.
`sources.py` reads each kind of source, `shapes.py` knows rows by their columns, `reader.py` turns them into examples,
`tasks.py` says which task a data set has, `load.py` reads a data set, and `catalogue.py` holds the data sets of one
experiment.

To add a kind of source, add a field to `Source` in `experiment/suite.py` and a reader to `READERS` in `sources.py`.
To read another file format, go to `files.py`. To change the generated suite, go to `builtin/`.
"""
