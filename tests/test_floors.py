"""The floors: imports point downward, inference stays light, files stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

PACKAGE = Path(__file__).parents[1] / "sfumato"
MODULES = sorted(
    path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)
GROUND = {
    "sfumato.timebase",
    "sfumato.errors",
    "sfumato.machine",
    "sfumato.version",
    "sfumato.speech",  # signal processing only: what a network hears
    "sfumato.corpus",
    "sfumato.motionfile",  # what a motion is, whoever makes it
}
ENGINES = {"sfumato.engine", "sfumato.weights", "sfumato.details", "sfumato.landmarks"}
OUTLETS = ("sfumato.server.", "sfumato.integrations.")
ROOMS = ("sfumato.train.", "sfumato.eval.", *OUTLETS)
HEAVY = {"torch", "mediapipe", "scipy", "onnx", "onnxscript", "skimage", "torchvision"}
STANDS_ALONE = "sfumato.train.teacher"  # runs in an environment of its own


def floor(module: str) -> int:
    if module in GROUND or module.startswith(("sfumato.media.", "sfumato.geometry.")):
        return 0
    if module.startswith("sfumato.models."):
        return 1
    if module in ENGINES:
        return 2
    if module.startswith(ROOMS):
        return 4
    if module.startswith(("sfumato.cli", "sfumato.__main__")):
        return 5
    return 3


def source(module: str) -> Path:
    return PACKAGE.parent / (module.replace(".", "/") + ".py")


def imports(module: str) -> set[str]:
    """Modules a module imports anywhere in it, type checking included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source(module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write imports in full"
            name = node.module or ""
            inner = {f"{name}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= inner or {name}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module: str) -> None:
    for other in imports(module) & set(MODULES):
        assert floor(other) <= floor(module), f"{module} imports {other} from a floor above"
        for room in ROOMS:
            if other.startswith(room) and floor(module) == 4:
                assert module.startswith(room), f"{module} and {other} are siblings"


@pytest.mark.parametrize(
    "module", [m for m in MODULES if floor(m) in {0, 2, 3, 5} or m.startswith(OUTLETS)]
)
def test_the_product_needs_no_workshop_packages(module: str) -> None:
    assert not HEAVY & {name.partition(".")[0] for name in imports(module)}


@pytest.mark.parametrize("module", [m for m in MODULES if floor(m) == 0])
def test_the_ground_knows_no_networks(module: str) -> None:
    tops = {name.partition(".")[0] for name in imports(module)}
    assert tops <= set(sys.stdlib_module_names) | {"sfumato", "numpy", "av", "cv2", "PIL"}


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_stay_short(module: str) -> None:
    text = source(module).read_text("utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{module}.{node.name} has {length} lines"


@pytest.mark.parametrize("module", [m for m in MODULES if m != STANDS_ALONE])
def test_no_global_random_numbers(module: str) -> None:
    for node in ast.walk(ast.parse(source(module).read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"np.random", "random"}:
            assert node.attr in {"Generator", "default_rng"}, f"{module}: {ast.unparse(node)}"


def loaded_after(code: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=True,
    )
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_import_does_nothing() -> None:
    heavy = {"numpy", "cv2", "av", "onnxruntime", "PIL", "c2pa", "rich", "typer"}
    assert not loaded_after("import sfumato") & (heavy | HEAVY)


def test_help_is_light() -> None:
    heavy = {"numpy", "cv2", "av", "onnxruntime", "PIL", "c2pa"}
    assert not loaded_after("import sfumato.cli") & (heavy | HEAVY)


def test_the_whole_product_loads_without_torch() -> None:
    assert not loaded_after("import sfumato.avatar, sfumato.cli, sfumato.provenance") & HEAVY
