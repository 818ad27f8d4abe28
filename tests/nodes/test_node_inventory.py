"""Saved graphs rely on node ids, inputs and outputs: removing one fails until nodes.json is edited."""

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
def test_every_execute_runs_inside_the_pack_s_own_frame(node, module):
    """One decorator gives each node its threads, its notes and the wording of its errors."""
    (execute,) = (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "execute")
    assert [ast.unparse(decorator) for decorator in execute.decorator_list] == ["classmethod", "running.node"]


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: path.stem)
def test_every_input_has_a_tooltip(path):
    """Of its own, or the help of the setting that it reads from the core's options."""
    from vividtalk_core import settings
    from vividtalk_core.options import options_of

    tree = ast.parse(path.read_text(encoding="utf-8"))
    for call in calls(tree, ".Input"):
        if ast.unparse(call.func).startswith(("io.", "sockets.")) and call.args:
            assert "tooltip" in keywords(call), f"line {call.lineno}: {ast.unparse(call)[:60]}"
    for call in calls(tree, "convert.widget"):
        declared, field = call.args
        assert options_of(getattr(settings, ast.unparse(declared)))[ast.literal_eval(field)].help


@pytest.mark.parametrize(
    ("words", "node_id"),
    [
        *(
            (words, "TalkingHead")
            for words in ("lip sync", "talking avatar", "avatar", "speech", "audio driven", "dub")
        ),
        *((words, "TalkingHeadVideo") for words in ("lip sync", "talking avatar", "animate portrait")),
        *((words, "EncodeAudio") for words in ("speech", "wav2vec", "whisper")),
        *((words, "FitFace") for words in ("3DMM", "FaceVerse")),
        *((words, "GenerateExpression") for words in ("lip sync", "blink", "mouth")),
        *((words, "ScaleExpression") for words in ("emotion", "blink", "mouth")),
    ],
)
def test_search_words(words, node_id):
    """For the ComfyUI versions whose search knows aliases; a name of words stands for its value."""
    for node, module in (param.values for param in NODES):
        (schema,) = calls(node, "io.Schema")
        if keywords(schema)["node_id"].value == f"VividTalk_{node_id}":
            (given,) = (keyword.value for keyword in schema.keywords if keyword.arg is None)
            source = ast.parse((ROOT / f"nodes/{module}.py").read_text(encoding="utf-8"))
            shared = [ast.literal_eval(item.value) for item in source.body if ast.unparse(item).startswith("WORDS = ")]
            assert ast.unparse(given.func) == "convert.search_words"
            assert words in [arg.value for arg in given.args if isinstance(arg, ast.Constant)] + [*sum(shared, ())]


@pytest.mark.parametrize(("node", "module"), NODES)
def test_every_node_is_listed_and_has_a_help_page(node, module):
    listing = (ROOT / "nodes/__init__.py").read_text(encoding="utf-8")
    assert f"{module}.{node.name}," in listing
    node_id = keywords(calls(node, "io.Schema")[0])["node_id"].value
    assert (ROOT / f"web/docs/{node_id}.md").is_file()


def test_ids_are_those_of_the_inventory():
    ids = [keywords(calls(param.values[0], "io.Schema")[0])["node_id"].value for param in NODES]
    assert sorted(ids) == sorted(INVENTORY)


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: path.stem)
def test_modules_hold_no_state(path):
    """ComfyUI shares modules between runs: nothing may be kept in them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]


@pytest.mark.parametrize(("node", "module"), NODES)
def test_nodes_hold_no_state(node, module):
    """ComfyUI shares node classes between runs: nothing may be kept on them."""
    assert {type(item) for item in node.body} == {ast.FunctionDef}, "methods alone, no attributes"
    for method in node.body:
        assert ast.unparse(method.decorator_list[0]) == "classmethod"
        names = [argument.arg for argument in method.args.args]
        assert names[0] == "cls" and "self" not in names, f"{method.name} takes self"


def test_server_shows_exactly_the_inventory(comfy):
    from inventory import inventory

    assert inventory(comfy.get("/object_info")) == INVENTORY


def test_server_shows_a_tooltip_for_every_input(comfy):
    for node_id in INVENTORY:
        info = comfy.get(f"/object_info/{node_id}")[node_id]
        for kind in ("required", "optional"):
            for name, (_, options) in info["input"].get(kind, {}).items():
                assert options.get("tooltip"), f"{node_id}.{name}"
