"""What the shipped workflows load reaches the input folder of a fresh ComfyUI when the pack loads."""

import os
import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "vividtalk_core/assets/demo"
NAMES = ("portrait.jpg", "speech.flac", "driving.mp4")


def placed(server):
    """Names and bytes of the files that the input folder holds."""
    return {path.name: path.read_bytes() for path in (server.base / "input").iterdir() if path.is_file()}


def shipped():
    return {f"vividtalk_{name}": (DEMO / name).read_bytes() for name in NAMES}


def test_an_empty_input_folder_gets_the_demo_files(comfy):
    assert placed(comfy).items() >= shipped().items()


def test_the_loaders_offer_them(comfy):
    for node, file in (("LoadImage", NAMES[0]), ("LoadAudio", NAMES[1]), ("LoadVideo", NAMES[2])):
        inputs = comfy.get(f"/object_info/{node}")[node]["input"]["required"]
        offered, *options = next(iter(inputs.values()))
        assert f"vividtalk_{file}" in (offered if isinstance(offered, list) else options[0]["options"])


def test_a_file_of_the_same_name_is_not_replaced(comfy_folder):
    from comfy_server import ComfyServer

    own = f"vividtalk_{NAMES[0]}"
    with ComfyServer(comfy_folder, ROOT, lambda folder: (folder / own).write_bytes(b"the user's own")) as server:
        assert placed(server) == shipped() | {own: b"the user's own"}


def test_a_read_only_input_folder_is_a_warning(comfy_folder):
    from comfy_server import ComfyServer

    launcher = ()
    if os.geteuid() == 0:  # root may write everywhere unless it gives that right up
        launcher = ("setpriv", "--bounding-set", "-dac_override")
        if not shutil.which(launcher[0]):
            pytest.skip("as root this needs setpriv")
    with ComfyServer(comfy_folder, ROOT, lambda folder: folder.chmod(0o555), launcher) as server:
        assert not placed(server)
        assert "VividTalk_TalkingHead" in server.get("/object_info")
        assert "cannot place the demo files" in server.log


def test_the_driving_clip_is_small_marked_and_of_constant_rate():
    import av

    from vividtalk_core.video.writer import SYNTHETIC

    path = DEMO / "driving.mp4"
    assert path.stat().st_size < 250_000
    with av.open(str(path)) as container:
        assert container.metadata["comment"] == SYNTHETIC
        stream = container.streams.video[0]
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
        assert {after - before for before, after in pairwise(times)} == {Fraction(1, 25)}


def test_the_driving_clip_nods_and_turns():
    from vividtalk_core.face.models import load_face_models
    from vividtalk_core.face.track import track_video
    from vividtalk_core.video.reader import read_video

    clip = read_video(DEMO / "driving.mp4", with_audio=False)
    track = track_video(load_face_models(), clip.frames, clip.fps)
    pitch, yaw, _ = track.pose.rotation.rad2deg().unbind(-1)
    assert (pitch.max() - pitch.min()) > 8 and (yaw.max() - yaw.min()) > 8
    assert track.expression.coefficients.amax(0).amax() > 0.3
