"""Makes workflows/*.json (what people open) from workflows/api/*.json in the real front end of ComfyUI.

Needs playwright in the environment that runs it and a Chromium; nothing but the loopback server is asked.

usage: python .ci/ui_workflows.py [--chromium /usr/bin/chromium] [--pictures FOLDER]
"""

import argparse
import json
import tempfile
from pathlib import Path

from comfy_server import ComfyServer
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = ROOT / "workflows"
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader"]
READY = "() => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50"
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else a dialog lies over the graph
    "Comfy.Minimap.Visible": False,
    "LiteGraph.Canvas.LowQualityRenderingZoomThreshold": 0.0,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
COLUMN, GAP = 360, 60  # px between the left sides of columns, and between nodes of one column
MISSING = "() => app.graph.nodes.filter(n => !LiteGraph.registered_node_types[n.type]).map(n => n.type)"
SHOWS = ["PreviewImage", "MaskPreview", "SaveVideo"]  # these grow when they have something to show
TIDY = """([column, gap, shows]) => {
  for (const n of app.graph.nodes) {
    if (shows.includes(n.type)) n.setSize([column - gap, column - gap]);
    for (const w of n.widgets ?? []) if (w.name === "control_after_generate") w.value = "fixed";
  }
  const depth = {}, links = app.graph.links;
  const find = n => depth[n.id] ??= 1 + Math.max(-1, ...(n.inputs ?? []).filter(i => i.link != null)
    .map(i => find(app.graph.getNodeById((links.get?.(i.link) ?? links[i.link]).origin_id))));
  const bottom = {};
  const late = n => 1000 * shows.includes(n.type) + n.id;
  for (const n of [...app.graph.nodes].sort((a, b) => late(a) - late(b))) {
    const x = find(n);
    n.pos = [x * column, bottom[x] ?? 0];
    bottom[x] = n.pos[1] + n.size[1] + gap;
  }
}"""


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


def convert(page: Page, source: Path) -> dict:
    """The UI format of an API-format file, in columns from left to right, seeds fixed."""
    graph = json.loads(source.read_text(encoding="utf-8"))
    page.evaluate("async ([graph, name]) => { await app.loadApiJson(graph, name) }", [graph, source.stem])
    page.wait_for_timeout(1000)
    missing = page.evaluate(MISSING)
    if missing:
        raise ValueError(f"{source.name}: the front end does not know {missing}")
    page.evaluate(TIDY, [COLUMN, GAP, SHOWS])
    # as text: the values that JSON leaves out would come back as null, which the front end itself refuses
    return json.loads(page.evaluate("() => JSON.stringify(app.graph.serialize())"))


def reopen(page: Page, workflow: dict, picture: Path | None) -> None:
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


def main() -> None:
    """Convert every workflow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--pictures", type=Path, help="folder for screenshots")
    options = parser.parse_args()
    demo = ROOT / "vividtalk_core/assets/demo"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        names = [path.name for path in demo.iterdir()] + ["driving.mp4"]
        inputs = [Path(folder) / f"vividtalk_{name}" for name in names]
        for path in inputs:
            known = demo / path.name.removeprefix("vividtalk_")
            path.write_bytes(known.read_bytes() if known.is_file() else b"")
        with ComfyServer(ROOT / ".comfy", ROOT, inputs) as server:
            browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1800, "height": 1000}, locale="en-US")
            open_page(page, server.url)
            for source in sorted((WORKFLOWS / "api").glob("*.json")):
                workflow = convert(page, source)
                reopen(page, workflow, options.pictures and options.pictures / f"{source.stem}.png")
                (WORKFLOWS / source.name).write_text(json.dumps(workflow, indent=2) + "\n", encoding="utf-8")
            browser.close()


if __name__ == "__main__":
    main()
