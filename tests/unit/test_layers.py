"""The walls of the house: who may import whom (docs/architecture.md), checked on the source."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BACKEND = ROOT / "backend"
ADDON = ROOT / "blender_addon"

FLOORS = {
    "": 0,  # head360/__init__.py
    "errors": 0,
    "files": 0,
    "provenance": 0,
    "sheets": 0,
    "arkit": 1,
    "protocol": 1,
    "connection": 1,
    "networks": 1,
    "rendering": 1,
    "client": 2,
    "launcher": 2,
    "geometry": 2,
    "datasets": 2,
    "heads": 3,
    "synthesis": 3,
    "training": 4,
    "fitting": 4,
    "editing": 4,
    "evaluation": 4,
    "evaluation_monocular": 4,
    "evaluation_ablation": 4,
    "evaluation_fitting": 4,
    "evaluation_generated": 4,
    "server": 5,
    "cli": 6,
    "commands": 6,
    "__main__": 6,
}
# Runs inside Blender as well: numpy, msgspec and pyzmq alone.
LIGHT_ROOMS = (
    "", "errors", "files", "provenance", "arkit", "protocol", "connection", "client", "launcher",
)  # fmt: skip
LIGHT_MODULES = (
    "head360.rendering",
    "head360.rendering.cameras",
    # Splats are imported in Blender.
    "head360.geometry",
    "head360.geometry.splatfile",
    # Capture from Blender writes both layouts.
    "head360.datasets",
    *(
        f"head360.datasets.{name}"
        for name in (
            "integrity", "journal", "monocular", "monocular_write", "png", "records", "scheme",
            "synhead", "synhead_write",
        )
    ),
)  # fmt: skip
LIGHT_PACKAGES = {"numpy", "msgspec", "zmq"}
BLENDER_PACKAGES = {"bpy", "bpy_extras", "gpu", "gpu_extras", "mathutils", "addon_utils", "blf"}
# What the gateway process runs; its worker, another process, may import anything below floor 5.
GATEWAY = "head360.server.gateway"
FORBIDDEN_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN_NAMES = {"recv_pyobj", "send_pyobj"}
FORBIDDEN_CALLS = {"torch.load", "torch.save", "eval", "exec"}


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        name: dotted and absolute; of ``from a import b`` both ``a`` and ``a.b`` are listed.
        line: in the source.
        late: inside a function, so not run when the module is imported.
    """

    name: str
    line: int
    late: bool


def module_name(path: Path, root: Path) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the backend and of the extension."""
    found = {module_name(path, BACKEND): path for path in (BACKEND / "head360").rglob("*.py")}
    found |= {module_name(path, ROOT): path for path in ADDON.rglob("*.py")}
    return found


@functools.cache
def tree(name: str) -> ast.Module:
    path = modules()[name]
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@functools.cache
def imports(name: str) -> tuple[Import, ...]:
    """What a module imports at run time, ``if TYPE_CHECKING`` left out."""
    package = name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]
    found: list[Import] = []

    def visit(node: ast.AST, late: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join(parts[: len(parts) - node.level + 1] + ([base] if base else []))
            found.append(Import(base, node.lineno, late))
            submodules = (f"{base}.{alias.name}" for alias in node.names)
            found.extend(Import(sub, node.lineno, late) for sub in submodules if sub in modules())
        if _only_for_types(node):
            assert isinstance(node, ast.If)
            children: Iterator[ast.AST] = iter(node.orelse)
        else:
            children = ast.iter_child_nodes(node)
        inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in children:
            visit(child, inside)

    visit(tree(name), False)
    return tuple(found)


def ancestors(name: str) -> list[str]:
    """``a.b.c`` → ``a``, ``a.b``, ``a.b.c``: importing the last runs the others."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def reached(start: str, *, late: bool) -> dict[str, list[str]]:
    """Everything that importing ``start`` runs → the path to it; ``late``: function bodies too."""
    paths: dict[str, list[str]] = {}
    queue = [(name, [name]) for name in ancestors(start)]
    while queue:
        name, path = queue.pop(0)
        if name in paths:
            continue
        paths[name] = path
        if name not in modules():
            continue
        for item in imports(name):
            if late or not item.late:
                queue.extend((target, [*path, target]) for target in ancestors(item.name))
    return paths


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def backend_modules() -> list[str]:
    return sorted(name for name in modules() if name.split(".")[0] == "head360")


def addon_modules() -> list[str]:
    return sorted(name for name in modules() if name.split(".")[0] == "blender_addon")


def light_modules() -> list[str]:
    return [n for n in backend_modules() if room(n) in LIGHT_ROOMS or n in LIGHT_MODULES]


def where(name: str, line: int) -> str:
    return f"{modules()[name].relative_to(ROOT)}:{line}"


def foreign(packages: set[str], allowed: set[str]) -> set[str]:
    return {
        package
        for package in packages
        if package not in allowed
        and package not in sys.stdlib_module_names
        and package not in ("head360", "blender_addon", "")
    }


def test_every_room_has_a_floor():
    unknown = {room(name) for name in backend_modules()} - set(FLOORS)
    assert not unknown, f"give these rooms a floor here and in docs/architecture.md: {unknown}"


def test_rooms_import_from_floors_below_or_beside():
    wrong = [
        f"{where(name, item.line)} ({room(name)}, floor {FLOORS[room(name)]}) imports {item.name}"
        for name in backend_modules()
        for item in imports(name)
        if item.name.split(".")[0] == "head360"
        and FLOORS.get(room(item.name), 99) > FLOORS[room(name)]
    ]
    assert not wrong, "\n".join(wrong)


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle in a directed graph, or []."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            found = walk(target, [*path, node])
            if found:
                return found
        done.add(node)
        return []

    for node in sorted(graph):
        found = walk(node, [])
        if found:
            return found
    return []


def test_rooms_have_no_circles():
    graph: dict[str, set[str]] = {}
    for name in backend_modules():
        for item in imports(name):
            if item.name.split(".")[0] == "head360" and room(item.name) not in ("", room(name)):
                graph.setdefault(room(name), set()).add(room(item.name))
    assert _circle(graph) == []


def test_modules_have_no_circles():
    graph = {
        name: {i.name for i in imports(name) if i.name in modules() and not i.late} - {name}
        for name in modules()
    }
    # ``from package import module`` names the package too; a module may do that of its own one.
    for name, targets in graph.items():
        targets -= set(ancestors(name)[:-1])
    assert _circle(graph) == []


@pytest.mark.parametrize("name", light_modules())
def test_what_blender_imports_is_light(name):
    paths = reached(name, late=True)
    heavy = foreign({target.split(".")[0] for target in paths}, LIGHT_PACKAGES)
    routes = [" → ".join(path) for target, path in paths.items() if target.split(".")[0] in heavy]
    assert not routes, "\n".join(routes)


def test_extension_imports_only_light_modules():
    light = set(light_modules())
    wrong = []
    for name in addon_modules():
        for item in imports(name):
            if item.name.split(".")[0] == "head360" and not set(ancestors(item.name)) <= light:
                wrong.append(f"{where(name, item.line)} imports {item.name}")
        packages = {item.name.split(".")[0] for item in imports(name)}
        strangers = foreign(packages, LIGHT_PACKAGES | BLENDER_PACKAGES)
        wrong += [f"{name} imports {package}" for package in sorted(strangers)]
    assert not wrong, "\n".join(wrong)


def test_gateway_never_imports_torch():
    paths = reached(GATEWAY, late=True)
    assert "torch" not in paths, " → ".join(paths["torch"])


def test_no_torch_in_a_process_that_imports_the_light_modules():
    """The same, seen from a running Python, where torch could be imported."""
    names = [*light_modules(), GATEWAY]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "sys.exit(' '.join({'torch', 'numba', 'scipy', 'PIL', 'bpy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_nothing_in_the_backend_imports_bpy():
    wrong = [
        where(name, item.line)
        for name in backend_modules()
        for item in imports(name)
        if item.name.split(".")[0] in BLENDER_PACKAGES
    ]
    assert not wrong, wrong


def _calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_pickle():
    wrong = []
    for name in modules():
        for item in imports(name):
            if item.name.split(".")[0] in FORBIDDEN_MODULES:
                wrong.append(f"{where(name, item.line)} imports {item.name}")
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_NAMES:
                wrong.append(f"{where(name, node.lineno)} uses {node.attr}")
        for function, call in _calls(name):
            # Other people's weights are published as state dicts; that reader runs no code.
            safe = {"weights_only": "True"}.items()
            if (
                function == "torch.load"
                and safe
                <= {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.items()
            ):
                continue
            if function in FORBIDDEN_CALLS:
                wrong.append(f"{where(name, call.lineno)} calls {function}")
            for keyword in call.keywords:
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                    wrong.append(f"{where(name, call.lineno)} allows pickle")
    assert not wrong, "\n".join(wrong)


def test_no_bare_except():
    wrong = [
        where(name, node.lineno)
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not wrong, wrong


def test_no_print():
    wrong = [
        where(name, call.lineno)
        for name in modules()
        for function, call in _calls(name)
        if function == "print"
    ]
    assert not wrong, wrong


def test_the_walls_are_seen(tmp_path, monkeypatch):
    """The reader of imports finds late, relative and nested ones, and skips those for types."""
    package = tmp_path / "head360" / "sub"
    package.mkdir(parents=True)
    sources = {
        "head360/__init__.py": "",
        "head360/sub/__init__.py": "from . import one",
        "head360/sub/one.py": (
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    import numba\nelse:\n    import scipy\n"
            "def f():\n    from ..two import g\n"
        ),
        "head360/two.py": "try:\n    import torch.nn as nn\nexcept ImportError:\n    pass\n",
    }
    for relative, text in sources.items():
        (tmp_path / relative).write_text(text)
    found = {
        module_name(tmp_path / relative, tmp_path): tmp_path / relative for relative in sources
    }
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "modules", lambda: found)
    for function in (tree, imports):
        function.cache_clear()
    try:
        early, late = reached("head360.sub", late=False), reached("head360.sub", late=True)
    finally:
        for function in (tree, imports):
            function.cache_clear()
    assert "scipy" in early
    assert "torch" not in early
    assert late["torch"] == ["head360.sub", "head360.sub.one", "head360.two", "torch"]
    assert "numba" not in late
