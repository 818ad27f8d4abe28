"""Node ids, inputs and outputs are a promise to every saved graph: removing one fails until nodes.json is edited."""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODE_FILES = sorted((ROOT / "nodes").glob("*.py"))
INVENTORY = json.loads((ROOT / "tests/nodes.json").read_text(encoding="utf-8"))


def keywords(call):
    return {keyword.arg: keyword.value for keyword in call.keywords}


def calls(tree, suffix):
    """Every call of a name that ends in the suffix, e.g. io.Schema or sockets.Face.Input."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [node for node in found if ast.unparse(node.func).endswith(suffix)]


def node_classes():
    for path in NODE_FILES:
        for item in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(item, ast.ClassDef) and any("ComfyNode" in ast.unparse(base) for base in item.bases):
                yield pytest.param(item, path.stem, id=f"{path.stem}.{item.name}")


NODES = list(node_classes())


@pytest.mark.parametrize(("node", "module"), NODES)
def test_schema_is_complete(node, module):
    (schema,) = calls(node, "io.Schema")
    fields = keywords(schema)
    assert isinstance(fields["node_id"], ast.Constant), "Manager's scanner reads literal ids only"
    assert fields["node_id"].value.startswith("VividTalk_")
    assert {"display_name", "category", "description"} <= fields.keys()


@pytest.mark.parametrize(("node", "module"), NODES)
def test_every_input_has_a_tooltip(node, module):
    for call in calls(node, ".Input"):
        assert "tooltip" in keywords(call), f"line {call.lineno}: {ast.unparse(call)[:60]}"


@pytest.mark.parametrize(("node", "module"), NODES)
def test_every_node_is_listed_and_has_a_help_page(node, module):
    listing = (ROOT / "nodes/__init__.py").read_text(encoding="utf-8")
    assert f"{module}.{node.name}," in listing
    node_id = keywords(calls(node, "io.Schema")[0])["node_id"].value
    assert (ROOT / f"web/docs/{node_id}.md").is_file()


def test_ids_are_those_of_the_inventory():
    ids = [keywords(calls(param.values[0], "io.Schema")[0])["node_id"].value for param in NODES]
    assert sorted(ids) == sorted(INVENTORY)


@pytest.mark.parametrize("path", [path for path in NODE_FILES if path.stem != "__init__"], ids=lambda path: path.stem)
def test_nodes_hold_no_state(path):
    """ComfyUI shares node classes between runs: nothing may be kept on them or in the module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
    for method in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        assert "self" not in [argument.arg for argument in method.args.args], f"{method.name} takes self"


def test_server_shows_exactly_the_inventory(comfy):
    from inventory import inventory

    assert inventory(comfy.get("/object_info")) == INVENTORY


def test_server_shows_a_tooltip_for_every_input(comfy):
    for node_id in INVENTORY:
        info = comfy.get(f"/object_info/{node_id}")[node_id]
        for kind in ("required", "optional"):
            for name, (_, options) in info["input"].get(kind, {}).items():
                assert options.get("tooltip"), f"{node_id}.{name}"
