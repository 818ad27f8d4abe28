"""Every workflow of the repository, executed by a real ComfyUI and looked at."""

import copy
import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import vividtalk_core

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows"
DEMO = ROOT / "vividtalk_core/assets/demo"
NAMES = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))
IMAGES = {"talking_head": ["3", 0], "full_graph": ["19", 0], "pose_from_video": ["8", 0]}  # where the frames come from
PARKED = {"26", "27", "28", "29", "30", "31"}  # of the full graph: present and not connected to the result
FPS = 25
SHORT_S = 0.4
OUTPUTS = ("PreviewImage", "MaskPreview", "SaveVideo")
NOTE = "MarkdownNote"
TITLE_BAR = 30  # px above a node's position


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def api(name):
    return load(WORKFLOWS / f"api/{name}.json")


def links(graph):
    """{node id: {input: (source id, output index)}} of an API-format graph."""
    return {
        node_id: {name: tuple(value) for name, value in node["inputs"].items() if isinstance(value, list)}
        for node_id, node in graph.items()
    }


def ui_links(workflow):
    """The same of a UI-format workflow."""
    sources = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    return {
        str(node["id"]): {i["name"]: sources[i["link"]] for i in node.get("inputs", []) if i.get("link") is not None}
        for node in workflow["nodes"]
    }


def test_every_workflow_has_both_formats_a_thumbnail_and_a_test():
    ui = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
    assert ui == NAMES == sorted(IMAGES)
    thumbnails = {path.stem: path.stat().st_size for path in WORKFLOWS.glob("*.jpg")}
    assert sorted(thumbnails) == NAMES and max(thumbnails.values()) < 100_000


def nodes_of(workflow):
    """The nodes of a UI-format workflow that the server knows; notes exist in the front end alone."""
    return [node for node in workflow["nodes"] if node["type"] != NOTE]


def box(node):
    """Left, top, right, bottom px of a node with its title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE_BAR, x + width, y + height


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def inside(inner, outer):
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


@pytest.mark.parametrize("name", NAMES)
def test_ui_format_is_the_same_graph(name):
    workflow, graph = load(WORKFLOWS / f"{name}.json"), api(name)
    assert {str(node["id"]): node["type"] for node in nodes_of(workflow)} == {
        node_id: node["class_type"] for node_id, node in graph.items()
    }
    assert {node_id: sources for node_id, sources in ui_links(workflow).items() if node_id in graph} == links(graph)


@pytest.mark.parametrize("name", NAMES)
def test_nodes_say_which_pack_and_version_they_come_from(name):
    from ui_workflows import pack_properties

    ours = pack_properties()
    assert ours["cnr_id"] == "vividtalk" and ours["ver"] == vividtalk_core.__version__
    for node in nodes_of(load(WORKFLOWS / f"{name}.json")):
        properties = node["properties"]
        if node["type"].startswith("VividTalk_"):
            assert {key: properties.get(key) for key in ours} == ours, "run: python3 .ci/ui_workflows.py --stamp"
        else:
            assert properties["cnr_id"] == "comfy-core" and re.fullmatch(r"\d+\.\d+\.\d+", properties["ver"])


@pytest.mark.parametrize("name", NAMES)
def test_nodes_and_groups_stand_apart(name):
    workflow = load(WORKFLOWS / f"{name}.json")
    boxes = [box(node) for node in workflow["nodes"]]
    left_top_size = [group["bounding"] for group in workflow["groups"]]
    frames = [(x, y, x + width, y + height) for x, y, width, height in left_top_size]
    assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]
    assert not [pair for pair in combinations(frames, 2) if overlap(*pair)]
    assert all(inside(node, frame) for node in boxes for frame in frames if overlap(node, frame))
    assert [node for node in workflow["nodes"] if node["type"] == NOTE], "a note says what to change"


def test_groups_of_the_full_graph_are_the_stages_of_the_paper():
    titles = [group["title"] for group in load(WORKFLOWS / "full_graph.json")["groups"]]
    for title in ("Portrait → 3DMM", "Stage 1: audio → mesh", "Stage 2: mesh → video", "Output"):
        assert title in titles


def test_every_socket_type_has_a_colour():
    types = set(re.findall(r'io\.Custom\("(\w+)"\)', (ROOT / "nodes/sockets.py").read_text(encoding="utf-8")))
    script = (ROOT / "web/js/socket_colours.js").read_text(encoding="utf-8")
    coloured = re.findall(r'^  (VIVIDTALK_\w+): "(#[0-9a-f]{6})",$', script, re.MULTILINE)
    assert types == {name for name, _ in coloured} and len({colour for _, colour in coloured}) == len(types)


def read_video(path):
    """Frames [T, H, W, 3] uint8, fps and seconds of sound of an mp4."""
    import av

    with av.open(str(path)) as container:
        stream, sound = container.streams.video[0], container.streams.audio[0]
        seconds = float(sound.duration * sound.time_base)
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        return frames, float(stream.average_rate), seconds


def read_pictures(paths):
    """PNG files as [T, H, W, 3] uint8."""
    from PIL import Image

    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


@pytest.fixture(scope="module")
def speech_s():
    from vividtalk_core.audio.waveform import read_audio

    waveform, sample_rate = read_audio(DEMO / "speech.flac")
    return waveform.shape[-1] / sample_rate


@pytest.fixture(scope="module")
def face():
    """Where the mouth is in the portrait (left, top, right, bottom px), and which pixels are far from the head."""
    from vividtalk_core.face.fit import fit_face
    from vividtalk_core.face.models import load_face_models
    from vividtalk_core.video.reader import read_image

    portrait = read_image(DEMO / "portrait.jpg")
    fit = fit_face(load_face_models(), portrait)
    lips = fit.landmarks[[61, 291, 0, 17], :2] * (fit.crop.size / 256)  # corners, top and bottom, MediaPipe's numbers
    lips = lips + lips.new_tensor((fit.crop.left, fit.crop.top))
    mouth = (*lips.amin(0).int().tolist(), *lips.amax(0).ceil().int().tolist())
    background = np.ones(portrait.shape[2:], bool)
    background[
        max(0, fit.crop.top) : fit.crop.top + fit.crop.size, max(0, fit.crop.left) : fit.crop.left + fit.crop.size
    ] = False
    return mouth, background


@pytest.fixture(scope="module", params=NAMES)
def result(request, comfy):
    """One workflow, run once: its name, what it gave, its frames as ComfyUI saves them, and the portrait likewise."""
    graph = copy.deepcopy(api(request.param))
    graph["frames"] = {"class_type": "PreviewImage", "inputs": {"images": IMAGES[request.param]}}
    graph["still"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    run = comfy.run(graph)
    (saved,) = (node_id for node_id, node in graph.items() if node["class_type"] == "SaveVideo")
    frames, (still,) = (read_pictures(comfy.files(run, node)) for node in ("frames", "still"))
    return run, comfy.files(run, saved)[0], frames, still


def test_frames_size_fps_and_sound(result, speech_s):
    _, video, pictures, still = result
    frames, fps, sound_s = read_video(video)
    assert len(frames) == len(pictures) == round(speech_s * FPS)
    assert fps == FPS
    assert pictures.shape[1:] == still.shape
    assert frames.shape[1:3] == tuple(side // 2 * 2 for side in still.shape[:2])
    assert abs(sound_s - speech_s) < 0.1


def test_mouth_moves_and_background_does_not(result, face):
    _, video, pictures, still = result
    (left, top, right, bottom), background = face
    mouth = pictures[:, top:bottom, left:right].astype(float)
    assert mouth.std(0).mean() > 4, "grey levels over time"
    assert (pictures[:, background] == still[background]).all(), "pixels outside the crop are the portrait's own"
    corners = still[:24, :24], still[:24, -24:]
    for corner, moving in zip(corners, (pictures[:, :24, :24], pictures[:, :24, -24:]), strict=True):
        assert (moving == corner).all()
    encoded, _, _ = read_video(video)
    assert np.abs(encoded[:, :24, :24].astype(float) - corners[0]).mean() < 4


def test_it_moves_smoothly(result):
    _, _, pictures, _ = result
    steps = np.abs(np.diff(pictures.astype(np.int16), axis=0)).mean((1, 2, 3))
    assert steps.mean() > 0 and steps.max() < 12, "grey levels from frame to frame: no flash and no freeze"


def test_progress_was_shown_to_the_end(result):
    run, _, pictures, _ = result
    steps = [data for kind, data in run.events if kind == "progress"]
    assert any(step["value"] == step["max"] == len(pictures) for step in steps)
    assert run.previews > 0


def test_parked_nodes_do_not_run(result):
    run, _, _, _ = result
    ran = {data["node"] for kind, data in run.events if kind == "executing"}
    assert not ran & PARKED


@pytest.fixture
def short_stages():
    """The full graph on less than half a second of speech, without its outputs."""
    graph = {key: node for key, node in api("full_graph").items() if node["class_type"] not in OUTPUTS}
    cut = {"audio": ["2", 0], "start_index": 0.5, "duration": SHORT_S}
    graph["cut"] = {"class_type": "TrimAudioDuration", "inputs": cut}
    graph["7"]["inputs"]["audio"] = graph["31"]["inputs"]["audio"] = ["cut", 0]
    return graph


@pytest.mark.parametrize("source", ["26", "27", "30"])
def test_a_parked_source_of_head_motion_works_when_it_is_connected(comfy, short_stages, source):
    short_stages["10"]["inputs"]["head_pose"] = [source, 0]
    short_stages["out"] = {"class_type": "PreviewImage", "inputs": {"images": ["11", 0]}}
    shown = read_pictures(comfy.files(comfy.run(short_stages), "out"))
    assert len(shown) == -(-round(SHORT_S * FPS) // short_stages["11"]["inputs"]["preview_every"])


def test_the_parked_way_for_long_speech_works_when_it_is_connected(comfy, short_stages):
    short_stages["21"] = copy.deepcopy(api("full_graph")["21"])
    short_stages["21"]["inputs"]["video"] = ["31", 0]
    run = comfy.run(short_stages)
    frames, fps, _ = read_video(comfy.files(run, "21")[0])
    assert len(frames) == round(SHORT_S * FPS) and fps == FPS
    assert not {data["node"] for kind, data in run.events if kind == "executing"} & {"13", "16", "18", "19", "20"}
