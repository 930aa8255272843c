"""Imports go one way, and each heavy dependency has one door."""

import ast
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fundusray"

LAYERS = {
    "errors": 0, "plugins": 0, "registry": 0, "keywords": 0, "files": 0, "config": 0, "settings": 0,
    "progress": 0, "terminal": 0,
    "sealed": 0, "verified": 0, "lock": 0, "phases": 0, "harmless": 0, "hashed_numbers": 0,
    "fractions_of_range": 0,
    "data": 1, "losses": 1, "metrics": 1, "models": 1, "recipes": 1,
    "pipeline": 2, "attacks": 2, "corruptions": 2,
    "tasks": 3, "conditions": 3, "certificates": 3, "saliency": 3,
    "training": 4,
    "runs": 5,
    "cluster": 6, "segmenter": 6,
    "reports": 7,
    "command": 8, "jobs": 8,
}  # fmt: skip

ALLOWED_SIBLINGS = {("command", "jobs"), ("jobs", "command")}

DOORS = {
    "nvidia": ["pipeline/engines/dali.py"],
    "ray": ["cluster/"],
    "optuna": ["cluster/"],
    # Tests and benchmarks alone hold ours against it.
    "torchattacks": [],
    "captum": ["saliency/"],
    "timm": ["models/networks.py", "models/timm_networks.py"],
    "torchvision": ["models/networks.py"],
    "matplotlib": [
        "reports/figures.py",
        "reports/linearity_figures.py",
        "reports/robustness_curves.py",
        "reports/segmentation_figures.py",
    ],
    "jinja2": ["reports/html.py"],
    "openpyxl": ["data/reading/workbooks.py"],
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module name a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(name: str) -> str:
    """The part of the package a dotted name is in, "" outside it."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "fundusray" and len(pieces) > 1 else ""


def test_every_module_has_a_layer() -> None:
    assert len(modules()) > 30
    for path in modules():
        top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        assert top == "__init__" or top in LAYERS, f"{path} has no layer"


def test_imports_point_down() -> None:
    wrong = []
    for path in modules():
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imported(path):
            there = part(name)
            if there not in LAYERS or here not in LAYERS or here == there:
                continue
            ground = LAYERS[here] == LAYERS[there] == 0
            below = LAYERS[there] < LAYERS[here]
            if not (below or ground or (here, there) in ALLOWED_SIBLINGS):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_reports_read_rows_only() -> None:
    for path in (PACKAGE / "reports").glob("*.py"):
        for name in imported(path):
            there = part(name)
            fine = there in ("", "reports", "metrics", "__version__") or LAYERS[there] == 0
            assert fine, f"{path.name} imports {name}"


def test_each_heavy_dependency_has_one_door() -> None:
    wrong = []
    for path in modules():
        place = path.relative_to(PACKAGE).as_posix()
        for name in imported(path):
            doors = DOORS.get(name.split(".")[0])
            if doors is not None and not any(place.startswith(door) for door in doors):
                wrong.append(f"fundusray/{place} imports {name}")
    assert not wrong


def test_spaces_import_nothing_of_ours() -> None:
    for path in (ROOT / "tune_spaces").glob("*.py"):
        assert not [name for name in imported(path) if name.startswith("fundusray")]


def test_nothing_unsafe_is_called() -> None:
    unsafe = (
        "weights_only=" + "False",
        "pickle.load",
        "yaml.load(",
        " ev" + "al(",
        "shell=" + "True",
    )
    for path in [*modules(), *(ROOT / "jobs").glob("*.py")]:
        text = path.read_text()
        assert not [word for word in unsafe if word in text], path


def test_the_device_benchmark_needs_neither_ray_nor_dali() -> None:
    """A machine with a GPU has torch and timm, but seldom those two."""
    absent = ("ray", "nvidia.dali", "optuna", "jinja2", "matplotlib", "torchattacks", "captum")
    code = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in absent)
    code += (
        "import device\nprint(len(list(device.resident(device.CPU, device.torch.device('cpu')))))"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"


def test_importing_the_package_is_instant() -> None:
    assert not imported(PACKAGE / "__init__.py")


def test_no_folder_of_ours_is_left_out() -> None:
    """Neither of the repository nor of what a submitted job takes along."""
    ours = {path.name for place in ("fundusray", "tests") for path in (ROOT / place).rglob("*")}
    for name in (".gitignore", ".rayignore"):
        lines = (ROOT / name).read_text().split()
        anywhere = {line.rstrip("/") for line in lines if not line.startswith("/")}
        assert not anywhere & ours - {"__pycache__"}, name
