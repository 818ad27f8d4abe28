"""Nodes in a real ComfyUI beyond the workflows: other inputs, files, errors and Cancel."""

import copy
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows/api"
TALK = json.loads((WORKFLOWS / "talking_head.json").read_text(encoding="utf-8"))
STAGES = json.loads((WORKFLOWS / "full_graph.json").read_text(encoding="utf-8"))
for stage in STAGES.values():
    stage["inputs"].pop("preview_every", None)  # the tests here look at every frame
SHORT_S = 0.4


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def notes(run, node_id):
    """What a node shows as text."""
    return " ".join(run.outputs.get(node_id, {}).get("text", []))


def save_picture(comfy, name, pixels):
    """Put pixels [H, W, 3 or 4] uint8 into the input folder and load them with their mask."""
    from PIL import Image

    Image.fromarray(pixels).save(comfy.base / "input" / name)
    return node("LoadImage", image=name)


@pytest.fixture(scope="session")
def portrait_pixels():
    """[H, W, 3] uint8 of the demo portrait: one face, in the middle of the upper half, and a badge below it."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(ROOT / "vividtalk_core/assets/demo/portrait.jpg").convert("RGB"))


def comment(path):
    """The comment in the metadata of a video."""
    import av

    with av.open(str(path)) as container:
        return container.metadata.get("comment", "")


@pytest.fixture
def talk():
    """Talking Head on less than half a second of speech, its frames previewed."""
    graph = {key: copy.deepcopy(TALK[key]) for key in ("1", "2", "3")}
    graph["cut"] = node("TrimAudioDuration", audio=["2", 0], start_index=0.5, duration=SHORT_S)
    graph["3"]["inputs"]["audio"] = ["cut", 0]
    graph["out"] = node("PreviewImage", images=["3", 0])
    return graph


@pytest.fixture
def stages():
    """The chain up to the driven mesh on the same sound."""
    graph = {key: copy.deepcopy(STAGES[key]) for key in ("1", "2", "3", "4", "7", "8", "9", "10", "11", "12")}
    graph["cut"] = node("TrimAudioDuration", audio=["2", 0], start_index=0.5, duration=SHORT_S)
    graph["7"]["inputs"]["audio"] = ["cut", 0]
    return graph


def error_of(comfy, graph):
    from comfy_server import PromptError

    with pytest.raises(PromptError) as caught:
        comfy.run(graph)
    return str(caught.value)


def pictures(comfy, run, node_id):
    """The pixels of each PNG; its metadata holds the prompt and differs."""
    from PIL import Image

    return [Image.open(path).tobytes() for path in comfy.files(run, node_id)]


def test_same_seed_same_bits_another_seed_another_film(comfy, talk):
    first = pictures(comfy, comfy.run(talk), "out")
    other = copy.deepcopy(talk)
    other["3"]["inputs"]["seed"] = 7
    assert pictures(comfy, comfy.run(other), "out") != first
    assert pictures(comfy, comfy.run(talk), "out") == first


def test_fps_decides_how_many_frames(comfy, talk):
    talk["3"]["inputs"]["fps"] = 30.0
    assert len(comfy.files(comfy.run(talk), "out")) == round(SHORT_S * 30)


def test_cancel_stops_a_running_node(comfy, talk):
    talk["3"]["inputs"]["audio"] = ["2", 0]
    sent = []

    def cancel_early(kind, data):
        if kind == "progress" and data["node"] == "3" and not sent:
            sent.append(data["value"])
            comfy.interrupt()

    run = comfy.run(talk, cancel_early)
    assert run.end == "execution_interrupted"
    done, frames = run.progress("3")[-1]
    assert sent[0] <= done < frames


def test_no_face_is_reported(comfy, talk):
    talk["1"] = node("EmptyImage", width=320, height=320, batch_size=1, color=0x808080)
    assert "face" in error_of(comfy, talk)


def test_mask_of_another_size_is_reported_with_both_sizes(comfy, stages):
    stages["mask"] = node("SolidMask", value=1.0, width=100, height=50)
    stages["4"]["inputs"]["mask"] = ["mask", 0]
    assert "100 x 50" in error_of(comfy, stages)


def test_a_mask_chooses_the_face(comfy, stages):
    stages["mask"] = node("SolidMask", value=1.0, width=512, height=512)
    stages["4"]["inputs"]["mask"] = ["mask", 0]
    assert len(comfy.files(comfy.run(stages), "12")) == round(SHORT_S * 25)


def test_hub_ids_cannot_be_paths(comfy, stages):
    stages["3"]["inputs"]["hub_id"] = "../secrets"
    assert "OWNER/NAME@REVISION" in error_of(comfy, stages)
    stages["3"]["inputs"]["hub_id"] = ""
    stages["7"]["inputs"]["hub_id"] = "/etc/passwd"
    assert "OWNER/NAME@REVISION" in error_of(comfy, stages)


def test_missing_repository_is_reported(comfy, stages):
    stages["3"]["inputs"]["hub_id"] = "nobody/nothing@0123456"
    assert "nobody/nothing" in error_of(comfy, stages)


def test_weights_of_a_models_folder(comfy, stages):
    folder = comfy.base / "models/vividtalk/mine"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "vividtalk_core/assets/head.safetensors", folder)
    stages["3"]["inputs"]["weights"] = "mine"
    assert len(comfy.files(comfy.run(stages), "12")) == round(SHORT_S * 25)


def test_speech_model_of_a_models_folder(comfy, stages):
    """A tiny random wav2vec2 as transformers saves it."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Wav2Vec2Config(**sizes, conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
    Wav2Vec2Model(config).save_pretrained(comfy.base / "models/vividtalk/tiny")
    stages["7"]["inputs"]["encoder"] = "tiny"
    # the pack's network for the parallel mode was trained on Whisper's states, the causal one takes the log-mel alone
    assert "choose the encoder" in error_of(comfy, stages)
    stages["8"]["inputs"]["mode"] = "causal"
    assert len(comfy.files(comfy.run(stages), "12")) == round(SHORT_S * 25)


def test_track_video_needs_something_to_track(comfy, stages):
    graph = {"3": stages["3"], "t": node("VividTalk_TrackVideo", model=["3", 0], fps=25.0)}
    graph["p"] = node("PreviewImage", images=["t", 2])
    assert "link a video or frames" in error_of(comfy, graph)


def test_motion_of_another_length_is_reported(comfy, stages):
    stages["other"] = node("VividTalk_EncodeAudio", audio=["2", 0], fps=25.0, encoder="mel")
    stages["long"] = copy.deepcopy(stages["8"])
    stages["long"]["inputs"]["audio_features"] = ["other", 0]
    stages["10"]["inputs"]["expression"] = ["long", 0]  # the head pose is as short as the sound it is made for
    assert "frames" in error_of(comfy, stages)


@pytest.mark.parametrize("suffix", ["npz", "csv", "json"])
def test_saved_motion_loads_again(comfy, stages, suffix):
    graph = {key: stages[key] for key in ("1", "2", "3", "4", "7", "8", "9", "cut")}
    graph["save"] = node(
        "VividTalk_SaveMotion", expression=["8", 0], head_pose=["9", 0], filename_prefix="motion/curve", format=suffix
    )
    comfy.run(graph)
    (file,) = (comfy.base / "output/motion").glob(f"*.{suffix}")
    listed = comfy.get("/object_info/VividTalk_LoadMotion")["VividTalk_LoadMotion"]["input"]["required"]["file"]
    assert f"motion/{file.name} [output]" in json.dumps(listed)
    folder = comfy.base / "input/takes"
    folder.mkdir(exist_ok=True)
    shutil.copy(file, folder / f"curve.{suffix}")
    stages["load"] = node("VividTalk_LoadMotion", model=["3", 0], file=f"motion/{file.name} [output]", fps=25.0)
    stages["10"]["inputs"] |= {"expression": ["load", 0], "head_pose": ["load", 1]}
    from_output = pictures(comfy, comfy.run(stages), "12")
    assert len(from_output) == round(SHORT_S * 25)
    stages["load"]["inputs"]["file"] = f"takes/curve.{suffix}"
    assert pictures(comfy, comfy.run(stages), "12") == from_output


@pytest.mark.parametrize("name", ["../secret.csv", "missing.npz", "../secret.csv [output]", "/etc/passwd", "takes"])
def test_motion_comes_from_comfyui_s_folders_alone(comfy, stages, name):
    (comfy.base / "secret.csv").write_text("Timecode,BlendshapeCount,JawOpen\n")
    graph = {"3": stages["3"], "load": node("VividTalk_LoadMotion", model=["3", 0], file=name, fps=25.0)}
    graph["show"] = node("VividTalk_PreviewMotion", expression=["load", 0])
    graph["out"] = node("PreviewImage", images=["show", 0])
    assert "There is no motion file" in error_of(comfy, graph)


def test_edits_chain(comfy, stages):
    """Every edit that changes nothing leaves the mesh as it is; one that stops all motion changes it."""
    plain = pictures(comfy, comfy.run(stages), "12")
    ones = dict.fromkeys(("jaw", "lips", "cheeks", "eyelids", "gaze", "brows"), 1.0)
    zeros = dict.fromkeys(ones, 0.0)
    stages["scale"] = node("VividTalk_ScaleExpression", expression=["8", 0], **ones)
    stages["mix"] = node("VividTalk_MixExpression", first=["scale", 0], second=["8", 0], **zeros)
    stages["smooth"] = node("VividTalk_SmoothExpression", expression=["mix", 0], width=0.0)
    stages["still"] = node("VividTalk_StillPose", expression=["8", 0])
    stages["turn"] = node("VividTalk_ScalePose", head_pose=["9", 0], pitch=1.0, yaw=1.0, roll=1.0, shift=1.0)
    stages["blend"] = node("VividTalk_MixPose", first=["turn", 0], second=["still", 0], weight=0.0)
    stages["calm"] = node("VividTalk_SmoothPose", head_pose=["blend", 0], width=0.0)
    stages["fit"] = node("VividTalk_VideoPose", head_pose=["calm", 0], expression=["smooth", 0])
    stages["10"]["inputs"] |= {"expression": ["smooth", 0], "head_pose": ["fit", 0]}
    assert pictures(comfy, comfy.run(stages), "12") == plain
    stages["scale"]["inputs"] |= zeros
    stages["blend"]["inputs"]["weight"] = 1.0
    stilled = pictures(comfy, comfy.run(stages), "12")
    assert stilled != plain
    assert len(set(stilled)) == 1, "nothing moves"


@pytest.mark.parametrize("view", ["landmarks", "mesh", "face mask", "person mask", "crop"])
def test_every_view_of_the_face(comfy, stages, view):
    graph = {key: stages[key] for key in ("1", "3", "4")}
    graph["view"] = node("VividTalk_PreviewFace", face=["4", 0], view=view)
    graph["out"] = node("PreviewImage", images=["view", 0])
    assert len(comfy.files(comfy.run(graph), "out")) == 1


def test_odd_sizes_become_even_in_the_video(comfy, talk):
    talk["crop"] = node("ImageCrop", image=["1", 0], width=511, height=509, x=0, y=0)
    talk["3"]["inputs"]["portrait"] = ["crop", 0]
    talk["4"] = copy.deepcopy(TALK["4"])
    assert comfy.files(comfy.run(talk), "4")[0].stat().st_size > 1000


def test_long_video_has_the_same_frames_and_says_what_it_is(comfy, talk):
    """Talking Head (long video) writes through a file; what comes out is what Talking Head makes, encoded."""
    import av
    import numpy as np

    still = pictures(comfy, comfy.run(talk), "out")
    talk["long"] = copy.deepcopy(talk["3"]) | {"class_type": "VividTalk_TalkingHeadVideo"}
    talk["4"] = node("SaveVideo", video=["long", 0], filename_prefix="long", format="auto", codec="auto")
    (path,) = comfy.files(comfy.run(talk), "4")
    with av.open(str(path)) as container:
        assert "VividTalk" in container.metadata["comment"]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == len(still)
    raw = np.frombuffer(still[-1], np.uint8).reshape(frames[-1].shape)
    assert np.abs(raw.astype(float) - frames[-1]).mean() < 4


def test_frames_can_be_tracked_without_a_video(comfy, talk):
    talk["models"] = node("VividTalk_LoadModels", weights="embedded")
    talk["track"] = node("VividTalk_TrackVideo", model=["models", 0], frames=["3", 0], fps=25.0)
    talk["again"] = node("VividTalk_FitFace", model=["models", 0], portrait=["1", 0], face_index=0, threshold=0.5)
    talk["mesh"] = node("VividTalk_DriveMesh", face=["again", 0], expression=["track", 0], head_pose=["track", 1])
    talk["draw"] = node("VividTalk_PreviewMesh", face=["again", 0], mesh=["mesh", 0])
    talk["out"] = node("PreviewImage", images=["draw", 0])
    assert len(comfy.files(comfy.run(talk), "out")) == round(SHORT_S * 25)


@pytest.mark.parametrize("stopped", ["13", "16", "18", "19"])
def test_every_stage_shows_progress_and_can_be_cancelled(comfy, stages, stopped):
    stages |= {key: copy.deepcopy(STAGES[key]) for key in ("13", "16", "18", "19")}
    stages["out"] = node("PreviewImage", images=["19", 0])
    sent = []

    def cancel_first(kind, data):
        if kind == "progress" and data["node"] == stopped and not sent:
            sent.append(data)
            comfy.interrupt()

    run = comfy.run(stages, cancel_first)
    assert sent
    assert run.end == "execution_interrupted"


@pytest.fixture
def awake(comfy, motion_vae, frame_generator):
    """The name of a weight set whose networks of stage 2 change a lot."""
    from vividtalk_core.hub import save_module

    folder = comfy.base / "models/vividtalk/awake"
    folder.mkdir(parents=True, exist_ok=True)
    save_module(folder / "motion.safetensors", motion_vae, motion_vae.config)
    save_module(folder / "generator.safetensors", frame_generator, frame_generator.config)
    return "awake"


@pytest.fixture
def film(stages):
    """All stages up to the pasted frames, with the previews of occlusion and alpha."""
    stages |= {key: copy.deepcopy(STAGES[key]) for key in ("13", "16", "18", "19", "24", "25")}
    return stages | {"out": node("PreviewImage", images=["19", 0])}


def set_strength(graph, motion, frames):
    graph["16"]["inputs"]["strength"], graph["18"]["inputs"]["strength"] = motion, frames
    return graph


def test_strength_of_each_stage_goes_from_closed_form_to_network(comfy, film, awake):
    shown = {}
    for weights, motion, frames in (("embedded", 0.0, 0.0), (awake, 0.0, 0.0), (awake, 1.0, 0.0), (awake, 0.0, 1.0)):
        film["3"]["inputs"]["weights"] = weights
        run = comfy.run(set_strength(film, motion, frames))
        shown[weights, motion, frames] = [pictures(comfy, run, node_id) for node_id in ("out", "24", "25")]
    closed, same, moved, painted = shown.values()
    assert closed == same, "without strength it does not matter which networks there are"
    assert moved[0] != closed[0] and moved[1] != closed[1]
    assert painted[0] != closed[0] and painted[1] == closed[1] and painted[2] != closed[2]


def test_graphs_from_before_the_networks_run_as_they_were_saved(comfy, film, talk):
    now = pictures(comfy, comfy.run(film), "out")
    for key in ("16", "18"):
        del film[key]["inputs"]["strength"], film[key]["inputs"]["model"]
    assert pictures(comfy, comfy.run(film), "out") == now
    del talk["3"]["inputs"]["strength"]
    assert len(comfy.files(comfy.run(talk), "out")) == round(SHORT_S * 25)


def test_talking_head_has_the_same_strength(comfy, talk, awake):
    talk["models"] = node("VividTalk_LoadModels", weights=awake)
    talk["3"]["inputs"]["model"] = ["models", 0]
    full = pictures(comfy, comfy.run(talk), "out")
    talk["3"]["inputs"]["strength"] = 0.0
    closed = pictures(comfy, comfy.run(talk), "out")
    assert closed != full
    talk["models"]["inputs"]["weights"] = "embedded"
    assert pictures(comfy, comfy.run(talk), "out") == closed


def test_strength_has_its_limits(comfy, talk):
    talk["3"]["inputs"]["strength"] = 1.5
    assert "strength" in error_of(comfy, talk)


# --- notes on the node


def test_a_run_without_warnings_shows_no_text(comfy, talk):
    assert notes(comfy.run(talk), "3") == ""


def test_warnings_are_on_the_node_and_in_the_log(comfy, talk):
    """Several pictures, silence and an odd size, each reported on the node where it occurs."""
    talk["crop"] = node("ImageCrop", image=["1", 0], width=511, height=509, x=0, y=0)
    talk["twice"] = node("RepeatImageBatch", image=["crop", 0], amount=2)
    talk["quiet"] = node("EmptyAudio", duration=SHORT_S, sample_rate=44100, channels=2)
    talk["3"]["inputs"] |= {"portrait": ["twice", 0], "audio": ["quiet", 0]}
    text = notes(comfy.run(talk), "3")
    for part in ("The portrait input has 2 pictures", "The audio is silent", "it is cut to 510 x 508 px"):
        assert part in text
        assert part in comfy.log
    again = comfy.run(talk)  # everything comes from the cache, and what it showed with it
    assert notes(again, "3") in ("", text)


def test_a_mask_that_marks_nothing_is_reported(comfy, stages):
    graph = {key: stages[key] for key in ("1", "3", "4")}
    graph["none"] = node("SolidMask", value=0.0, width=512, height=512)
    graph["4"]["inputs"]["mask"] = ["none", 0]
    graph["view"] = node("VividTalk_PreviewFace", face=["4", 0], view="crop")
    graph["out"] = node("PreviewImage", images=["view", 0])
    assert "The mask marks nothing: it is ignored." in notes(comfy.run(graph), "4")


def test_sound_that_is_longer_than_the_motion_is_reported(comfy, film):
    film["render"] = node(
        "VividTalk_RenderVideo",
        portrait=["1", 0],
        face=["4", 0],
        expression=["8", 0],
        head_pose=["9", 0],
        audio=["2", 0],
    )
    film["save"] = node("SaveVideo", video=["render", 0], filename_prefix="cut", format="auto", codec="auto")
    assert "the sound is cut" in notes(comfy.run(film), "render")


def test_each_node_shows_its_own_notes(comfy, stages):
    stages["slow"] = copy.deepcopy(stages["7"])
    stages["slow"]["inputs"]["fps"] = 20.0
    stages["other"] = copy.deepcopy(stages["8"])
    stages["other"]["inputs"]["audio_features"] = ["slow", 0]
    del stages["other"]["inputs"]["upper_face"]  # it is for the other frame rate
    stages["idle"] = node("VividTalk_IdlePose", expression=["other", 0], seed=0, amplitude=1.0)
    stages["fit"] = node("VividTalk_VideoPose", head_pose=["idle", 0], expression=["8", 0])
    stages["10"]["inputs"]["head_pose"] = ["fit", 0]
    run = comfy.run(stages)
    assert "resampled from 20 to 25 fps" in notes(run, "fit")
    assert [key for key in run.outputs if notes(run, key)] == ["fit"]


def test_of_several_faces_the_used_one_is_named(comfy, stages, portrait_pixels):
    import numpy as np

    stages["1"] = save_picture(comfy, "two.png", np.concatenate((portrait_pixels, portrait_pixels), 1))
    assert "2 faces were found" in notes(comfy.run(stages), "4")
    stages["4"]["inputs"]["face_index"] = 1
    assert notes(comfy.run(stages), "4") == ""
    stages["4"]["inputs"]["face_index"] = 2
    assert "There is no face number 2: 2 faces were found" in error_of(comfy, stages)


def test_a_cut_out_picture_works_with_its_own_mask(comfy, stages, portrait_pixels):
    """Load Image marks what is transparent: everything but the person."""
    import numpy as np

    height, width = portrait_pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    opaque = ((x - width * 0.45) / (width * 0.42)) ** 2 + ((y - height * 0.5) / (height * 0.49)) ** 2 < 1
    pixels = np.concatenate((portrait_pixels, 255 * opaque[..., None].astype(np.uint8)), 2)
    stages["1"] = save_picture(comfy, "cutout.png", pixels)
    plain = pictures(comfy, comfy.run(stages), "12")
    stages["4"]["inputs"]["mask"] = ["1", 1]
    run = comfy.run(stages)
    assert pictures(comfy, run, "12") == plain, "the face is where it is without the mask"
    assert "transparent background" in notes(run, "4")
    stages["turned"] = node("InvertMask", mask=["1", 1])
    stages["4"]["inputs"]["mask"] = ["turned", 0]
    run = comfy.run(stages)
    assert pictures(comfy, run, "12") == plain and notes(run, "4") == ""


@pytest.fixture
def badge(stages):
    """The same stages with a mask on the badge below the face."""
    stages["none"] = node("SolidMask", value=0.0, width=512, height=512)
    stages["dot"] = node("SolidMask", value=1.0, width=80, height=70)
    stages["mask"] = node("MaskComposite", destination=["none", 0], source=["dot", 0], x=250, y=330, operation="add")
    stages["4"]["inputs"]["mask"] = ["mask", 0]
    return stages


def test_a_mask_without_a_face_is_an_error_in_the_words_of_the_node(comfy, badge):
    text = error_of(comfy, badge)
    assert "The mask marks 2 % of the picture, and no face is found in its box (250, 330, 330, 400" in text
    assert "invert the mask, unlink it, or turn on 'force' to use it anyway." in text
    badge["4"]["inputs"]["force"] = True
    assert "it is used because 'force' is set" in notes(comfy.run(badge), "4")


def test_talking_head_refuses_the_same_mask(comfy, badge, talk):
    badge["3"] = talk["3"]
    badge["3"]["inputs"]["mask"] = ["mask", 0]
    graph = {key: badge[key] for key in ("1", "2", "3", "cut", "none", "dot", "mask")} | {"out": talk["out"]}
    assert "invert the mask, unlink it, or turn on 'force'" in error_of(comfy, graph)


def test_errors_name_the_inputs_of_the_node(comfy, stages, talk):
    grey = node("EmptyImage", width=320, height=320, batch_size=1, color=0x808080)
    for graph in (stages, talk):
        graph["1"] = grey
        text = error_of(comfy, graph)
        assert "link a 'mask' that marks the face" in text and "by hand" not in text and "--" not in text


def test_the_head_pose_s_length_names_the_node_that_fits_it(comfy, stages):
    stages["short"] = node("TrimAudioDuration", audio=["cut", 0], start_index=0.0, duration=0.2)
    stages["other"] = copy.deepcopy(stages["7"])
    stages["other"]["inputs"]["audio"] = ["short", 0]
    stages["9"]["inputs"]["audio_features"] = ["other", 0]
    expected = "The upper face has 5 frames at 25 fps, the speech 10 at 25: draw it for the same audio features"
    assert expected in error_of(comfy, stages)
    del stages["8"]["inputs"]["upper_face"]
    assert "fit the head pose to the length with Video Pose" in error_of(comfy, stages)


# --- videos


def test_every_video_says_that_it_is_synthetic(comfy, talk, stages):
    """Of frames in memory and of files, saved by ComfyUI's own node, as they are and encoded again."""
    talk["make"] = node("VividTalk_MakeVideo", images=["3", 0], fps=25.0, audio=["cut", 0])
    talk["long"] = copy.deepcopy(talk["3"]) | {"class_type": "VividTalk_TalkingHeadVideo"}
    for name, source in (("a", ["3", 3]), ("b", ["make", 0]), ("c", ["long", 0])):
        talk[name] = node("SaveVideo", video=source, filename_prefix=f"mark_{name}", format="auto", codec="auto")
    talk["d"] = node("SaveVideo", video=["long", 0], filename_prefix="mark_d", format="mp4", codec="h264")
    run = comfy.run(talk)
    for name in "abcd":
        (path,) = comfy.files(run, name)
        assert "VividTalk" in comment(path), name


def test_render_video_makes_the_frames_of_the_separate_nodes(comfy, film):
    import av
    import numpy as np

    film["render"] = node(
        "VividTalk_RenderVideo",
        portrait=["1", 0],
        face=["4", 0],
        expression=["8", 0],
        head_pose=["9", 0],
        audio=["cut", 0],
        model=["3", 0],
        strength=1.0,
    )
    film["save"] = node("SaveVideo", video=["render", 0], filename_prefix="render", format="auto", codec="auto")
    run = comfy.run(film)
    stills = pictures(comfy, run, "out")
    (path,) = comfy.files(run, "save")
    assert "VividTalk" in comment(path)
    with av.open(str(path)) as container:
        assert container.streams.audio
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == len(stills) == round(SHORT_S * 25)
    for frame, still in zip(frames, stills, strict=True):
        assert np.abs(np.frombuffer(still, np.uint8).reshape(frame.shape).astype(float) - frame).mean() < 4
    film["save"]["inputs"]["filename_prefix"] = "again"
    film["still"] = node("VividTalk_ScalePose", head_pose=["9", 0], pitch=0.0, yaw=0.0, roll=0.0, shift=0.0)
    film["other"] = node("VividTalk_EncodeAudio", audio=["2", 0], fps=25.0, encoder="mel")
    film["long"] = copy.deepcopy(film["9"])
    film["long"]["inputs"]["audio_features"] = ["other", 0]
    film["render"]["inputs"]["head_pose"] = ["long", 0]
    assert "frames and the head" in error_of(comfy, film), "before the first frame, not after the last"


def test_previews_can_be_thinned_and_the_frames_stay(comfy, film):
    whole = comfy.run(film)
    for key in ("11", "13", "16", "18"):
        film[key]["inputs"]["preview_every"] = 4
    film["ncc"] = node("PreviewImage", images=["13", 1])
    film["flow"] = node("PreviewImage", images=["16", 1])
    film["small"] = node("PreviewImage", images=["18", 1])
    thinned = comfy.run(film)
    frames = round(SHORT_S * 25)
    assert {len(comfy.files(thinned, key)) for key in ("12", "24", "25", "ncc", "flow", "small")} == {-(-frames // 4)}
    assert pictures(comfy, thinned, "12") == pictures(comfy, whole, "12")[::4]
    assert pictures(comfy, thinned, "out") == pictures(comfy, whole, "out")


# --- another speech encoder


def test_talking_head_runs_weights_of_another_encoder(comfy, talk):
    """Expression weights that were trained on the states of a speech model, and that model, both tiny and random."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    from vividtalk_core.audio_to_mesh.expression import ExpressionConfig, ExpressionGenerator
    from vividtalk_core.hub import save_module

    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Wav2Vec2Config(**sizes, conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
    Wav2Vec2Model(config).save_pretrained(comfy.base / "models/vividtalk/ears")
    folder = comfy.base / "models/vividtalk/trained_on_ears"
    folder.mkdir(parents=True)
    weights = ExpressionConfig(front_end="states", state_width=24)
    save_module(folder / "expression.safetensors", ExpressionGenerator(weights), weights)
    talk["models"] = node("VividTalk_LoadModels", weights="trained_on_ears")
    talk["3"]["inputs"] |= {"model": ["models", 0], "encoder": "ears"}
    assert len(comfy.files(comfy.run(talk), "out")) == round(SHORT_S * 25)
    talk["3"]["inputs"]["encoder"] = "mel"
    assert "choose the encoder" in error_of(comfy, talk)
    talk["3"]["inputs"]["encoder_hub_id"] = "../secrets"
    assert "OWNER/NAME@REVISION" in error_of(comfy, talk)


# --- what the browser gets


def test_scripts_for_the_browser_are_served(comfy):
    scripts = comfy.get("/extensions")
    for name in ("notes.js", "load_motion.js"):
        assert any(path.endswith(f"/js/{name}") for path in scripts)


@pytest.mark.parametrize(
    ("words", "node_id"),
    [
        ("lip sync", "TalkingHead"),
        ("avatar", "TalkingHead"),
        ("speech", "EncodeAudio"),
        ("wav2vec", "EncodeAudio"),
        ("3DMM", "FitFace"),
        ("blink", "GenerateExpression"),
        ("mouth", "GenerateExpression"),
        ("emotion", "ScaleExpression"),
        ("expression", "GenerateExpression"),
    ],
)
def test_nodes_are_called_by_what_people_look_for(comfy, words, node_id):
    """The front ends of the oldest versions search ids and display names only."""
    nodes = comfy.get("/object_info")
    assert words.lower() in nodes[f"VividTalk_{node_id}"]["display_name"].lower()
    assert "lip sync" not in nodes["VividTalk_LipSyncScore"]["display_name"].lower()
