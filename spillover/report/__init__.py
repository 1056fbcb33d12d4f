"""Numbers become the page, the tables of the terminal, figures and files.

Comes in: `Results` and the other numbers of `analysis`. Goes out: `report.html`, figures as SVG, PDF and PNG, tables
as Markdown, LaTeX, CSV and JSON. This room only presents: it computes no statistic.

To add a figure, write a function that returns a `Figure` in `figures.py` and yield it in `every` there; `charts.py`
has the parts that figures are drawn from. To add a section of the page, go to `sections.py`.
"""
