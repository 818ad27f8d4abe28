"""Makes workflows/*.json (what people open) from workflows/api/*.json and layouts.py in the real front end of ComfyUI.

Each node names the pack that it comes from and its version, so that ComfyUI-Manager can offer to install the pack where
it is missing. Making the files needs a Chromium, and playwright in the environment that runs this; it connects to the
loopback server only. `--stamp` needs neither: it only writes the version of pyproject.toml into the files.

usage: .comfy/venv/bin/python .ci/ui_workflows.py [--chromium /usr/bin/chromium] [--pictures FOLDER]
       python3 .ci/ui_workflows.py --stamp
"""

from __future__ import annotations

import argparse
import json
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layouts import LAYOUTS, arrange

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = ROOT / "workflows"
PREFIX = "VividTalk_"
CORE = "comfy-core"  # the id that the registry gives to ComfyUI's own nodes
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader"]
READY = "() => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50"
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # otherwise a dialog covers the graph
    "Comfy.Minimap.Visible": False,
    "LiteGraph.Canvas.LowQualityRenderingZoomThreshold": 0.0,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
MISSING = "() => app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]).map(n => n.type)"
FIX_SEEDS = """() => {
  const widgets = app.graph.nodes.flatMap(n => n.widgets ?? []);
  for (const w of widgets) if (w.name === "control_after_generate") w.value = "fixed";
}"""


def pack_properties() -> dict[str, str]:
    """The properties of a node of this pack, from pyproject.toml: name in the registry, repository, version."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # tomllib came with Python 3.11

    def value(key: str) -> str:
        found = re.search(rf'^{key} = "(.+)"$', text, re.MULTILINE)
        if found is None:
            raise ValueError(f"pyproject.toml has no {key}")
        return found[1]

    return {
        "cnr_id": value("name"),
        "aux_id": value("Repository").removeprefix("https://github.com/"),
        "ver": value("version"),
    }


def stamp(workflow: dict[str, Any], comfyui_version: str | None = None) -> None:
    """Write into each node where it comes from; ComfyUI's own keep their version unless one is given."""
    of_pack = pack_properties()
    for node in workflow["nodes"]:
        if node["type"].startswith(PREFIX):
            node["properties"] |= of_pack
        elif node["type"] != "MarkdownNote" and comfyui_version is not None:
            node["properties"] |= {"cnr_id": CORE, "ver": comfyui_version}


def write(path: Path, workflow: dict[str, Any]) -> None:
    """As text that a person can compare."""
    path.write_text(json.dumps(workflow, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def open_page(page: Page, url: str) -> None:
    """Load the front end and wait until it knows the nodes."""
    page.route(
        "**/*", lambda route: route.continue_() if route.request.url.startswith((url, "blob:")) else route.abort()
    )
    for key, value in SETTINGS.items():
        page.request.post(f"{url}/api/settings/{key}", data=json.dumps(value))
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_function(READY, timeout=90_000)
    page.wait_for_timeout(1500)


def convert(page: Page, source: Path) -> dict[str, Any]:
    """The UI format of an API-format file as its layout says, seeds fixed."""
    graph = json.loads(source.read_text(encoding="utf-8"))
    page.evaluate("async ([graph, name]) => { await app.loadApiJson(graph, name) }", [graph, source.stem])
    page.wait_for_timeout(1000)
    missing = page.evaluate(MISSING)
    if missing:
        raise ValueError(f"{source.name}: the front end does not know {missing}")
    page.evaluate(FIX_SEEDS)
    # as text: the values that JSON leaves out would come back as null, which the front end itself refuses
    workflow = json.loads(page.evaluate("() => JSON.stringify(app.graph.serialize())"))
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"vividtalk/{source.stem}"))  # the same each time
    workflow["extra"] = {}
    arrange(workflow, LAYOUTS[source.stem])
    return workflow


def reopen(page: Page, workflow: dict[str, Any], picture: Path | None) -> None:
    """Open the result as a user does; fail if the front end complains."""
    page.evaluate("async ([workflow]) => { await app.loadGraphData(workflow, true, true, 'check') }", [workflow])
    page.wait_for_timeout(1000)
    complaints = page.locator(".p-toast-message, [role=dialog]").all_inner_texts()
    if complaints or page.evaluate(MISSING):
        raise ValueError(f"the front end complains: {complaints}")
    if picture:
        page.evaluate("async () => { await app.extensionManager.command.execute('Comfy.Canvas.FitView') }")
        page.wait_for_timeout(1000)
        page.screenshot(path=picture)


def convert_all(chromium: str, pictures: Path | None) -> None:
    """Make every workflow anew."""
    from comfy_server import ComfyServer
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, ComfyServer(ROOT / ".comfy", ROOT) as server:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1800, "height": 1000}, locale="en-US")
        open_page(page, server.url)
        comfyui_version = server.get("/system_stats")["system"]["comfyui_version"]
        for source in sorted((WORKFLOWS / "api").glob("*.json")):
            workflow = convert(page, source)
            stamp(workflow, comfyui_version)
            reopen(page, workflow, pictures and pictures / f"{source.stem}.png")
            write(WORKFLOWS / source.name, workflow)
        browser.close()


def main() -> None:
    """Convert every workflow, or only write the version into each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--pictures", type=Path, help="folder for screenshots")
    parser.add_argument("--stamp", action="store_true", help="write the version of pyproject.toml, and nothing else")
    options = parser.parse_args()
    if not options.stamp:
        convert_all(options.chromium, options.pictures)
        return
    for path in sorted(WORKFLOWS.glob("*.json")):
        workflow = json.loads(path.read_text(encoding="utf-8"))
        stamp(workflow)
        write(path, workflow)


if __name__ == "__main__":
    main()
