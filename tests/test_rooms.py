"""Which room of vividtalk_core may import which, and that none imports ComfyUI."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "vividtalk_core"

# From the bottom up: a room may import only rooms that stand before it.
ORDER = [
    "errors",
    "options",
    "settings",
    "structures",
    "timing",
    "files",
    "progress",
    "threads",
    "hub",
    "nn",
    "time_grid",
    "pixels",
    "filters",
    "geometry",
    "audio",
    "head",
    "motion",
    "video",
    "face",
    "audio_to_mesh",
    "mesh_to_video",
    "critics",
    "pipeline",
    "eval",
    "training",
    "assets",
    "cli",
    "__main__",
]
# The same for the rooms within training.
TRAINING = ["sampling", "loop", "losses", "augment", "dataset", "prepare", "tasks", "reports"]
FOREIGN = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "server", "execution"}


def room(path: Path) -> str:
    if path.name == "__main__.py":  # a command may import all, wherever its package stands
        return "__main__"
    first = path.relative_to(CORE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path):
    """(level, module) of every import in the file, lazy ones included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [a.name for a in node.names] if not node.module else [node.module]
            yield from ((node.level, n) for n in names)
        elif isinstance(node, ast.Import):
            yield from ((0, a.name) for a in node.names)


def test_rooms():
    wrong = []
    for path in CORE.rglob("*.py"):
        if path.parent == CORE and path.name == "__init__.py":
            continue
        here = ORDER.index(room(path))
        depth = len(path.relative_to(CORE).parts)  # dots that lead up to vividtalk_core itself
        for level, module in imports(path):
            top = module.split(".")[0]
            if level == 0 and top in FOREIGN | {"vividtalk_core"}:
                wrong.append(f"{path.relative_to(ROOT)}: core imports {module}")
            if level == depth and top in ORDER and ORDER.index(top) > here:
                wrong.append(f"{path.relative_to(ROOT)}: {room(path)} imports {top}, which stands above it")
            if level > depth:
                wrong.append(f"{path.relative_to(ROOT)}: reaches out of vividtalk_core")
    assert not wrong, "\n".join(wrong)


def test_rooms_of_training():
    wrong = []
    for path in (CORE / "training").rglob("*.py"):
        parts = path.relative_to(CORE / "training").parts
        if parts == ("__init__.py",):
            continue
        here = parts[0].removesuffix(".py")
        for level, module in imports(path):
            top = module.split(".")[0]
            if level == len(parts) and TRAINING.index(top) > TRAINING.index(here):
                wrong.append(f"{path.relative_to(ROOT)}: {here} imports {top}, which stands above it")
    assert not wrong, "\n".join(wrong)
