"""How long the page takes, from a store that holds the study's grid: 2,304 cells, and with five seeds 10,944.

    python benchmarks/report_time.py --rows 100

The answers are made up (`tests/support/fakestore.py`), the work is what `spillover report` does: scores, contrasts,
claims, figures, examples, page. Each time is that of a process of its own, its start included, without torch: `first`
when nothing has been computed of the answers yet, `again` when scores and packed examples are there, as after a run.
`with files` also writes each figure as SVG, PDF and PNG with its table. In brackets the processor's time, which on a
busy machine is the fairer one.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[1]
sys.path[:0] = [str(HERE), str(HERE / "tests" / "support")]

AIMS = {1: 10, 5: 30}  # seconds, by the number of seeds
TRAINED_ON = ("xsum", "socialqa", "amazon", "paws", "multinli")
WORK = """
import sys
from spillover.result import load
load(sys.argv[1]).write(figures=sys.argv[2] == "with files")
assert "torch" not in sys.modules
"""


def seconds(folder: Path, how: str) -> tuple[float, float]:
    """Of one process: by the clock, and of the processor."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", WORK, str(folder), how], check=True, cwd=HERE)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    import fakestore

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100, help="a cell")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(AIMS), help="of each variant, one store for each")
    args = parser.parse_args()
    for seeds in args.seeds:
        with tempfile.TemporaryDirectory() as name:
            grid = fakestore.study_grid(args.rows, trains=TRAINED_ON, seeds=tuple(range(seeds)))
            folder = fakestore.write_store(Path(name), grid)
            fakestore.write_inside(folder, grid, layers=24)
            times = {how: seconds(folder, how) for how in ("first", "again", "with files")}
            size = (folder / "report.html").stat().st_size / 1e6
        aim = f" (aim {AIMS[seeds]} s)" if seeds in AIMS else ""
        said = ", ".join(f"{how} {clock:.1f} s ({processor:.1f} s)" for how, (clock, processor) in times.items())
        print(f"{len(grid.cells):,} cells of {args.rows} rows: {said}{aim}; the page has {size:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
