"""The list of node ids, inputs and outputs that users' saved graphs rely on: tests/nodes.json.

usage: .comfy/venv/bin/python .ci/inventory.py     writes the file anew from a running ComfyUI
"""

import json
from pathlib import Path
from typing import Any

from comfy_server import ComfyServer

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "tests/nodes.json"
PREFIX = "VividTalk_"


def inventory(object_info: dict[str, Any]) -> dict[str, Any]:
    """Our nodes of the server's /object_info: type and default of each input, name and type of each output."""
    return {node_id: _node(info) for node_id, info in sorted(object_info.items()) if node_id.startswith(PREFIX)}


def _node(info: dict[str, Any]) -> dict[str, Any]:
    kinds = {kind: info["input"].get(kind, {}) for kind in ("required", "optional")}
    return {
        **{kind: {name: _input(*spec) for name, spec in inputs.items()} for kind, inputs in kinds.items()},
        "outputs": [f"{name}: {io_type}" for name, io_type in zip(info["output_name"], info["output"], strict=True)],
    }


def _input(io_type: str | list[str], options: dict[str, Any]) -> str:
    name = "COMBO" if isinstance(io_type, list) else io_type
    return f"{name} = {options['default']!r}" if "default" in options else name


def main() -> None:
    """Write the file."""
    with ComfyServer(ROOT / ".comfy", ROOT) as server:
        nodes = inventory(server.get("/object_info"))
    FILE.write_text(json.dumps(nodes, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
