import csv
import json

import numpy as np
import pytest
import torch

from vividtalk_core.errors import CurveFileError, MismatchError, MissingFileError, OutputError
from vividtalk_core.motion.files import read_curves, write_curves
from vividtalk_core.motion.live_link import timecode
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion

RNG = np.random.default_rng(0)


@pytest.fixture
def expression():
    rng = torch.Generator().manual_seed(0)
    return Expression.from_rest(torch.rand(6, 52, generator=rng), torch.randn(6, 4, 3, generator=rng), 25.0)


@pytest.fixture
def pose():
    rng = torch.Generator().manual_seed(1)
    return HeadMotion(torch.randn(6, 3, generator=rng) / 5, torch.randn(6, 3, generator=rng), 25.0)


def arrays(**changes):
    """What `track` writes, for an .npz made by hand."""
    values = {
        "coefficients": RNG.random((6, 52)).astype(np.float32),
        "names": np.array(ARKIT_NAMES),
        "lip_offsets": np.zeros((6, 4, 3), np.float32),
        "rotation": np.zeros((6, 3), np.float32),
        "translation": np.zeros((6, 3), np.float32),
        "fps": np.float64(25),
    } | changes
    return {key: value for key, value in values.items() if value is not None}


def write_npz(tmp_path, **changes):
    np.savez(tmp_path / "m.npz", **arrays(**changes))
    return tmp_path / "m.npz"


@pytest.mark.parametrize("suffix", ["npz", "json"])
@pytest.mark.parametrize("neutral", [False, True])
def test_nothing_is_lost(tmp_path, expression, pose, suffix, neutral):
    if neutral:
        expression = Expression(
            expression.coefficients, expression.lip_offsets, 25.0, expression.coefficients[2], expression.lip_offsets[2]
        )
    write_curves(tmp_path / f"m.{suffix}", expression, pose)
    motion = read_curves(tmp_path / f"m.{suffix}", lip_vertices=4)
    assert (motion.frame_count, motion.fps) == (6, 25.0)
    for field in ("coefficients", "lip_offsets", "neutral_coefficients", "neutral_lip_offsets"):
        expected, found = getattr(expression, field), getattr(motion.expression, field)
        assert torch.equal(found, expected)
    assert motion.expression.baseline == expression.baseline
    assert torch.equal(motion.pose.rotation, pose.rotation)
    assert torch.equal(motion.pose.translation, pose.translation)
    assert [path.name for path in tmp_path.iterdir()] == [f"m.{suffix}"]


def test_the_arrays_of_track(tmp_path, expression, pose):
    write_curves(tmp_path / "m.npz", expression, pose, torch.zeros(6, 9, 2), torch.zeros(6, 478, 2))
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        shapes = {key: file[key].shape for key in file.files}
        assert file["names"].tolist() == list(ARKIT_NAMES)
    assert {k: shapes[k] for k in ("coefficients", "rotation", "vertices_2d", "landmarks_2d", "fps")} == {
        "coefficients": (6, 52), "rotation": (6, 3), "vertices_2d": (6, 9, 2), "landmarks_2d": (6, 478, 2), "fps": (),
    }  # fmt: skip


def test_live_link_columns(tmp_path, expression, pose):
    write_curves(tmp_path / "m.csv", expression, pose)
    with (tmp_path / "m.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert len(rows[0]) == 2 + 52 + 9
    assert (rows[0]["Timecode"], rows[1]["Timecode"]) == ("00:00:00:00.000", "00:00:00:02.400")
    assert rows[0]["BlendShapeCount"] == "61"
    assert float(rows[3]["JawOpen"]) == pytest.approx(float(expression.coefficients[3, 24]), abs=1e-6)
    assert float(rows[3]["HeadYaw"]) == pytest.approx(float(pose.rotation[3, 1]), abs=1e-6)
    motion = read_curves(tmp_path / "m.csv", lip_vertices=4)
    torch.testing.assert_close(motion.expression.coefficients, expression.coefficients, atol=1e-6, rtol=0)
    torch.testing.assert_close(motion.pose.rotation, pose.rotation, atol=1e-6, rtol=0)
    assert motion.expression.lip_offsets.shape == (6, 4, 3)


@pytest.mark.parametrize("fps", [5.0, 23.976, 25.0, 29.97, 30.0, 60.0])
@pytest.mark.parametrize("frames", [20, 200])
def test_timecodes_give_the_frame_rate(tmp_path, fps, frames):
    write_curves(tmp_path / "m.csv", pose=HeadMotion(torch.zeros(frames, 3), torch.zeros(frames, 3), fps))
    assert read_curves(tmp_path / "m.csv").fps == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize("base", [24, 30, 60])
def test_timecodes_of_other_recorders(tmp_path, base):
    lines = [f"12:59:{59 - 2 + n // base}:{n % base:02d}.000,{n / 100}" for n in range(3 * base)]
    (tmp_path / "m.csv").write_text("Timecode,JawOpen\n" + "\n".join(lines))
    motion = read_curves(tmp_path / "m.csv")
    assert motion.fps == base
    assert motion.pose is None
    assert motion.expression.coefficients[1, 24] == pytest.approx(0.01)
    assert timecode(3661.5) == "01:01:01:30.000"


def test_without_a_neutral_the_first_frame_is_it(tmp_path):
    motion = read_curves(write_npz(tmp_path))
    assert torch.equal(motion.expression.neutral_coefficients, motion.expression.coefficients[0])
    assert torch.equal(motion.expression.neutral_lip_offsets, motion.expression.lip_offsets[0])


def test_pose_only_and_expression_only(tmp_path, pose):
    only_pose = read_curves(write_npz(tmp_path, coefficients=None, names=None, lip_offsets=None, translation=None))
    assert only_pose.expression is None
    assert only_pose.pose.translation.shape == (6, 3)
    assert only_pose.frame_count == 6
    only_face = read_curves(write_npz(tmp_path, rotation=None, lip_offsets=None), lip_vertices=7)
    assert only_face.pose is None
    assert only_face.expression.lip_offsets.shape == (6, 7, 3)
    write_curves(tmp_path / "p.csv", pose=pose)
    assert read_curves(tmp_path / "p.csv").expression.coefficients.abs().max() == 0


def test_columns_go_by_name(tmp_path, caplog):
    values = RNG.random((6, 2))
    caplog.set_level("INFO", "vividtalk")
    motion = read_curves(write_npz(tmp_path, coefficients=values, names=np.array(["jawOpen", "browInnerUp"])))
    torch.testing.assert_close(motion.expression.coefficients[:, [24, 2]], torch.from_numpy(values).float())
    assert motion.expression.coefficients.count_nonzero() == 12
    assert "tongueOut: taken as 0" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coefficients": None, "rotation": None}, "neither 'coefficients' nor 'rotation'; found fps, lip_offsets"),
        ({"names": None}, "no 'names'"),
        ({"fps": None}, "no 'fps' in it; give one"),
        ({"fps": np.float64(0)}, "between 1 and 120; got 0"),
        ({"fps": np.array([25.0, 30.0])}, r"'fps' of 'm.npz' must be one number; got float64 \[2\]"),
        ({"fps": np.array("fast")}, "'fps' of 'm.npz' must be one number; got 'fast'"),
        ({"fps": np.complex128(25)}, "'fps' of 'm.npz' must be one number; got"),
        ({"names": np.array(5)}, "1 names for 52 columns"),
        ({"coefficients": np.zeros((6, 51))}, "52 names for 51 columns"),
        ({"coefficients": np.zeros(52)}, r"'coefficients' of 'm.npz' must be numbers \[any, any\]; got float64 \[52\]"),
        ({"coefficients": np.full((6, 52), np.nan)}, "'coefficients' of 'm.npz' has 312 of 312 values that are NaN"),
        ({"coefficients": np.zeros((0, 52)), "rotation": None}, "0 frames"),
        ({"names": np.array([*ARKIT_NAMES[:-1], "smirk"])}, "no ARKit blendshape: smirk"),
        ({"names": np.array([*ARKIT_NAMES[:-1], "jawOpen"])}, "jawOpen twice"),
        ({"rotation": np.zeros((6, 4))}, r"'rotation' .* \[any, 3\]; got float64 \[6, 4\]"),
        ({"rotation": np.zeros((5, 3)), "translation": None}, "6 frames of coefficients and 5 of rotation"),
        ({"translation": np.zeros((5, 3))}, r"'translation' .* \[6, 3\]"),
        ({"lip_offsets": np.zeros((6, 3, 3))}, "for 3 vertices, this head model has 4"),
        ({"neutral_coefficients": np.zeros(7)}, "52 names for 7 columns"),
        ({"rotation": np.array([["a"] * 3] * 6)}, "'rotation' of 'm.npz' must be numbers"),
        ({"rotation": np.zeros((6, 3), complex)}, "'rotation' of 'm.npz' must be numbers"),
        ({"translation": np.full((6, 3), 1e300)}, "'translation' of 'm.npz' has 18 of 18 values beyond ±10,000"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, changes, message):
    path = write_npz(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        read_curves(path, lip_vertices=4)


def test_unreadable_files(tmp_path):
    with pytest.raises(MissingFileError, match=r"no curve file .*none\.npz"):
        read_curves(tmp_path / "none.npz")
    for name, text, message in (
        ("a.npz", "x", r"'a.npz' is not an .npz file, or only a part of one \(1 bytes\)"),
        ("a.json", '{"rotation": [[0, 0, 0]], "fps": null}', "'fps' of 'a.json' must be one number; got None"),
        ("a.json", '{"rotation": [[0, 0, 0]], "fps": {"a": 1}}', "'fps' of 'a.json' must be one number"),
        ("a.json", "[" * 100_000, "'a.json' is not a JSON object"),
        ("a.json", "{", "'a.json' is not a JSON object"),
        ("a.json", "[1]", "'a.json' is not a JSON object"),
        ("a.txt", "x", "one of .npz, .csv, .json"),
        ("a.csv", "Timecode,JawOpen", "has 1 rows"),
        ("a.csv", "x" * 200_000, "not a table of comma-separated values"),
        ("a.csv", "JawOpen\n0.5", "no 'fps' in it; give one"),
        ("a.csv", "Timecode,JawOpen\n1,2,3", "row 2 of 'a.csv' has 3 values, the header 2"),
        ("a.csv", "Timecode,JawOpen\n00:00:00:00,x\n00:00:00:01,1", "column 'JawOpen' of 'a.csv'"),
        ("a.csv", "Timecode,JawOpen\nnow,1\nthen,1", "must look like 00:00:01:24.000; got now"),
        ("a.csv", "Timecode,JawOpen\n00:00:01:00,1\n00:00:00:00,1", "do not increase"),
        ("a.csv", "Timecode,HeadYaw\n00:00:00:00,1\n00:00:00:01,1", "no column HeadPitch, HeadRoll"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(CurveFileError, match=message):
            read_curves(tmp_path / name)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CurveFileError, match="not a text file"):
        read_curves(tmp_path / "b.csv")
    np.save(tmp_path / "p.npy", np.array({}, dtype=object), allow_pickle=True)
    np.savez(tmp_path / "p.npz", coefficients=np.array({}, dtype=object))
    with pytest.raises(CurveFileError, match=r"p\.npz' is not a readable \.npz file of plain arrays"):
        read_curves(tmp_path / "p.npz")
    # a single array is another format of numpy, and a member whose packed bytes are damaged fails in zlib
    np.save(tmp_path / "q.npy", np.zeros(3))
    (tmp_path / "q.npz").write_bytes((tmp_path / "q.npy").read_bytes())
    with pytest.raises(CurveFileError, match=r"q\.npz' is not an \.npz file"):
        read_curves(tmp_path / "q.npz")
    np.savez_compressed(tmp_path / "r.npz", rotation=RNG.random((400, 3)))
    packed = bytearray((tmp_path / "r.npz").read_bytes())
    packed[200:3000] = bytes(2800)
    (tmp_path / "r.npz").write_bytes(packed)
    with pytest.raises(CurveFileError, match=r"r\.npz' is not a readable \.npz file"):
        read_curves(tmp_path / "r.npz")
    (tmp_path / "d.npz").mkdir()
    with pytest.raises(MissingFileError, match="is a folder, the name of one curve file is needed"):
        read_curves(tmp_path / "d.npz")


def test_fps_from_outside_and_fields_of_json(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({"rotation": [[0, 0, 0]] * 3}))
    assert read_curves(tmp_path / "m.json", fps=30.0).fps == 30.0
    (tmp_path / "m.json").write_text(json.dumps({"rotation": [[0, 0, 0]] * 3, "fps": ["29.97"]}))
    assert read_curves(tmp_path / "m.json").fps == 29.97


def test_what_cannot_be_written(tmp_path, expression, pose):
    with pytest.raises(MismatchError, match="there are no curves"):
        write_curves(tmp_path / "m.npz")
    with pytest.raises(OutputError, match=r"the ending must be one of \.npz"):
        write_curves(tmp_path / "m.mat", expression)
    short = HeadMotion(pose.rotation[:3], pose.translation[:3], 30.0)
    with pytest.raises(MismatchError, match="6 frames at 25 fps and 3 at 30"):
        write_curves(tmp_path / "m.npz", expression, short)
    with pytest.raises(OutputError, match=r"the folder .*no' does not exist"):
        write_curves(tmp_path / "no" / "m.csv", expression, pose)
    assert not list(tmp_path.iterdir())
