"""Where tests find what is not theirs: the repository, and the study's data beside it, which CI has."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAPER_DATA = ROOT.parent / "shared" / "paper-data"
