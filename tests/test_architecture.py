"""The rule of imports: storage imports nothing of ours, labeling and alignment never each other, app.py all."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("storage", "labeling", "alignment")
OURS = {*ROOMS, "app", "tests", "benchmarks", "assets"}
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "accelerate"}
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path, *, at_top_only: bool = False) -> set[str]:
    """Full names of the modules a file imports."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in tree.body if at_top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in OURS}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for name in ours(path):
        if room == "storage":
            assert name.startswith("storage"), f"{named(path)} imports {name}"
        elif "engines" in path.parts:
            assert name.startswith(("storage", "labeling.engines")), f"{named(path)} imports {name}"
        elif room == "labeling":
            assert name.startswith(("storage", "labeling")), f"{named(path)} imports {name}"
        else:
            allowed = name.startswith(("storage", "alignment", "labeling.engines")) or name == "labeling"
            assert allowed, f"{named(path)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_gradio_stays_on_the_pages(path: Path) -> None:
    if any(name.split(".")[0] == "gradio" for name in imports(path)):
        assert path.name.endswith("_page.py") or "feedback" in path.parts


@pytest.mark.parametrize("path", FILES, ids=named)
def test_records_and_settings_of_storage_need_nothing(path: Path) -> None:
    if path.name in ("records.py", "errors.py"):
        assert {name.split(".")[0] for name in imports(path)} <= {*sys.stdlib_module_names, "storage"}


def test_importing_the_app_imports_no_torch() -> None:
    script = "import sys, app; print(sorted(set(sys.modules) & " + repr(HEAVY) + "))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_nothing_imports_the_app() -> None:
    assert [named(path) for path in FILES if "app" in {name.split(".")[0] for name in imports(path)}] == []


def test_the_tree_in_the_readme_matches_the_disk() -> None:
    tree = (ROOT / "README.md").read_text().split("## The tree of rooms")[1].split("```")[1]
    named: set[Path] = set()
    room = folder = ROOT
    for line in tree.strip().splitlines():
        first = line.split()[0]
        if first.endswith("/"):
            folder = (room if line.startswith(" ") else ROOT) / first
            room = folder if not line.startswith(" ") else room
        elif not line.startswith("    "):
            room = folder = ROOT
        else:
            folder = room
        named.update({folder, *(folder / name for name in re.findall(r"\b\w+\.(?:py|toml)\b", line))})

    assert [str(path) for path in sorted(named) if not path.exists()] == []
    rooms = [path for room in ROOMS for path in (ROOT / room).glob("*.py") if path.name != "__init__.py"]
    assert [path.name for path in rooms if path not in named] == []
