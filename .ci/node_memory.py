"""Peak memory of a ComfyUI that runs a graph of this pack, a fresh server for each, with the demo portrait and speech.

usage: .comfy/venv/bin/python .ci/node_memory.py [CASE...]
CASE is full, previews, render, talk or long; "render 4" is render with four times the speech.
"""

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

from comfy_server import ComfyServer

ROOT = Path(__file__).resolve().parents[1]
PREVIEWING = ("VividTalk_RenderNCC", "VividTalk_DenseMotion", "VividTalk_GenerateFrames", "VividTalk_PreviewMesh")
STAGE_1 = (
    "1",
    "2",
    "3",
    "4",
    "7",
    "8",
    "9",
)  # of the full graph: portrait, sound, models, face, features, curves, pose
SAVE = {"filename_prefix": "memory", "format": "auto", "codec": "auto"}
Graph = dict[str, Any]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of an API-format graph."""
    return {"class_type": class_type, "inputs": inputs}


def workflow(name: str) -> Graph:
    """A shipped workflow."""
    return json.loads((ROOT / f"workflows/api/{name}.json").read_text(encoding="utf-8"))


def full(every: int) -> Graph:
    """All stages as nodes, with pictures of every Nth frame."""
    graph = workflow("full_graph")
    for item in graph.values():
        if item["class_type"] in PREVIEWING:
            item["inputs"]["preview_every"] = every
    return graph


def render() -> Graph:
    """Stage 1 as nodes, stage 2 in Render Video."""
    graph = {key: value for key, value in workflow("full_graph").items() if key in STAGE_1}
    inputs = {"portrait": ["1", 0], "face": ["4", 0], "expression": ["8", 0], "head_pose": ["9", 0], "audio": ["2", 0]}
    graph["render"] = node("VividTalk_RenderVideo", **inputs, strength=1.0)
    return graph | {"save": node("SaveVideo", video=["render", 0], **SAVE)}


def talk(long: bool) -> Graph:
    """Talking Head, or the same for long speech."""
    graph = workflow("talking_head")
    if long:
        graph["3"]["class_type"] = "VividTalk_TalkingHeadVideo"
        graph["4"]["inputs"]["video"] = ["3", 0]
    return graph


def repeated(graph: Graph, times: int) -> Graph:
    """The same graph with its speech several times over."""
    graph, last = copy.deepcopy(graph), "2"
    users = [item["inputs"] for item in graph.values() if ["2", 0] in item["inputs"].values()]
    for index in range(1, times):
        graph[f"join{index}"] = node("AudioConcat", audio1=[last, 0], audio2=["2", 0], direction="after")
        last = f"join{index}"
    for inputs in users:
        inputs |= {name: [last, 0] for name, value in inputs.items() if value == ["2", 0]}
    return graph


def main() -> None:
    """Print one line for each case."""
    cases = {"full": full(1), "previews": full(10), "render": render(), "talk": talk(False), "long": talk(True)}
    for case in sys.argv[1:] or cases:
        name, _, times = case.partition(" ")
        with ComfyServer(ROOT / ".comfy", ROOT) as server:
            status = Path(f"/proc/{server.process.pid}/status")
            idle, start = megabytes(status, "VmRSS"), time.monotonic()
            server.run(repeated(cases[name], int(times or 1)))
            seconds = time.monotonic() - start
            print(f"{case}: {idle} MB idle, {megabytes(status, 'VmHWM')} MB peak, {seconds:.0f} s", flush=True)  # noqa: T201


def megabytes(status: Path, key: str) -> int:
    """One of the sizes that Linux gives of a process."""
    (line,) = (line for line in status.read_text(encoding="ascii").splitlines() if line.startswith(key))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
