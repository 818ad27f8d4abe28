"""Checks nodes/ with mypy --strict against .ci/stubs, which say what the pack uses of ComfyUI.

ComfyUI's own sources cannot serve: they give types as class attributes, which mypy does not take for types. nodes/
reaches the core by relative imports from a folder whose name is no Python name, so mypy reads it under another one.

usage: .venv/bin/python .ci/check_node_types.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "vividtalk_pack"
SETTINGS = f"""
[mypy]
python_version = 3.10
strict = true
[mypy-{NAME},{NAME}.vividtalk_core.*]
follow_imports = silent
"""


def main() -> int:
    """Mypy's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / NAME).symlink_to(ROOT, target_is_directory=True)
        settings = Path(folder) / "mypy.ini"
        settings.write_text(SETTINGS, encoding="utf-8")
        command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--package", f"{NAME}.nodes"]
        command += ["--cache-dir", str(ROOT / ".mypy_cache/nodes")]
        paths = os.pathsep.join((folder, str(ROOT / ".ci/stubs")))
        return subprocess.run(command, cwd=folder, env=os.environ | {"MYPYPATH": paths}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
