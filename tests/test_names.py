"""Public names say what they are, once; whoever searches for the field's word finds the file."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fundusray"
VAGUE = {
    "told", "shown", "found", "known", "said", "place", "way", "one", "given", "asked", "settled",
}  # fmt: skip
"""Words that say nothing alone."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def public_names(tree: ast.Module) -> set[str]:
    """Functions, classes and constants of a module that have no underscore before them."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def imported_files(name: str, tree: ast.Module) -> set[str]:
    """The modules of ours that a file imports when it is imported itself."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return {module for module in found if module in MODULES} - {name}


def test_no_public_name_is_a_vague_word() -> None:
    vague = [
        f"{module}.{name}"
        for module, tree in MODULES.items()
        for name in public_names(tree)
        if name.lower() in VAGUE
    ]
    assert not vague


@pytest.mark.parametrize("name", ["Job", "Quarantine", "Run", "Trainer", "Task", "Batch"])
def test_a_class_of_that_name_exists_once_at_most(name: str) -> None:
    assert len([m for m, tree in MODULES.items() if name in public_names(tree)]) <= 1


def test_no_file_imports_in_a_circle() -> None:
    imports = {name: imported_files(name, tree) for name, tree in MODULES.items()}
    # A package's own file gathers what its modules offer; they do not look up to it.
    done: set[str] = set()
    under_way: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in under_way:
            circle = [*under_way[under_way.index(name) :], name]
            raise AssertionError(f"imports go round: {' -> '.join(circle)}")
        under_way.append(name)
        for other in sorted(imports[name]):
            visit(other)
        under_way.pop()
        done.add(name)

    for name in imports:
        visit(name)


@pytest.mark.parametrize(
    ("word", "module"),
    [
        ("heartbeat", "fundusray.cluster.runtime.watchdog"),
        ("watchdog", "fundusray.cluster.runtime.watchdog"),
        ("pseudonym", "fundusray.data.manifest.pseudonyms"),
        ("duplicate", "fundusray.data.duplicates.near_duplicates"),
        ("out of memory", "fundusray.training.batch_size"),
        ("early stop", "fundusray.training.best_epoch"),
        ("DDP", "fundusray.training.ranks"),
    ],
)
def test_the_word_that_is_searched_for_leads_to_the_file(word: str, module: str) -> None:
    """The file's name or its first lines hold it."""
    heads = defaultdict(str)
    for name, tree in MODULES.items():
        heads[name] = f"{name.replace('_', ' ')} {ast.get_docstring(tree) or ''}".lower()
    assert word.lower() in heads[module]
    assert len([name for name, head in heads.items() if word.lower() in head]) <= 12
