"""The detector: parity with MediaPipe, the further searches, and merging."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.face import detector as module
from vividtalk_core.face.detector import FaceDetector, merge_overlapping, searches
from vividtalk_core.face.region import crop_regions

DATA = Path(__file__).parents[1] / "data"
ASSETS = Path(module.__file__).parents[1] / "assets"


@pytest.fixture(scope="module")
def detector():
    return FaceDetector(ASSETS / "detector.safetensors")


@pytest.fixture(scope="module")
def portrait(views):
    return views["as it is"]


def overlap(box, other):
    return float(module._overlap(torch.as_tensor(box), torch.as_tensor(other)[None]))


def test_parity_with_mediapipe(detector, views):
    reference = np.load(DATA / "mediapipe_reference.npz")
    errors = []  # px of the network's square
    for name, expected in zip(reference["names"], reference["detections"], strict=True):
        image = views[name]
        (found,) = detector.detect(image)
        points = torch.cat((found.box, found.keypoints.flatten())).numpy()
        errors.append(np.abs(points - expected[1:]).max() * 192 / max(image.shape))
        assert abs(found.score - expected[0]) < 0.02, name
    assert np.median(errors) < 0.15
    assert max(errors) < 3  # a second box whose score is just 0.6 is averaged in by one and not by the other


def test_keypoints_are_named_from_the_viewer(detector, portrait):
    left_eye, right_eye, nose, mouth, left_ear, right_ear = detector.detect(portrait)[0].keypoints.tolist()
    assert left_ear[0] < left_eye[0] < nose[0] < right_eye[0] < right_ear[0]
    assert left_eye[1] < nose[1] < mouth[1]


def test_several_faces_come_largest_first(detector, portrait):
    small = F.interpolate(portrait, scale_factor=0.6, mode="bilinear", antialias=True)
    both = torch.zeros(1, 3, 256, 410)
    both[..., :153, :153], both[..., 153:409] = small[..., :153, :153], portrait[..., :256]
    found = detector.detect(both)
    assert [d.box[0] > 153 for d in found] == [True, False]
    assert (found[0].box[2] - found[0].box[0]) / (found[1].box[2] - found[1].box[0]) == pytest.approx(1 / 0.6, rel=0.1)


def test_no_face(detector, landmarker):
    noise = torch.rand(1, 3, 200, 300, generator=torch.Generator().manual_seed(0))
    assert detector.detect(noise) == []
    assert detector.detect(noise, 0.5, landmarker.confirm) == []


def test_threshold_moves_no_face(detector, portrait):
    boxes = [detector.detect(portrait, threshold)[0].box for threshold in (0.2, 0.8)]
    torch.testing.assert_close(*boxes)
    assert detector.detect(portrait, 0.99) == []


def test_small_face_in_a_large_image_needs_a_further_search(detector, landmarker, portrait):
    face = F.interpolate(portrait[..., 10:200, 40:210], scale_factor=0.5, mode="bilinear", antialias=True)
    large = torch.full((1, 3, 3600, 2700), 0.5)
    large[..., 900:995, 700:785] = face
    assert detector.detect(large) == []
    (found,) = detector.detect(large, confirm=landmarker.confirm)
    assert overlap(found.box, [716.0, 927.0, 772.0, 983.0]) > 0.5


def test_face_that_fills_the_image_needs_a_further_search(detector, landmarker, portrait):
    box = detector.detect(portrait)[0].box
    left, top, right, bottom = (int(v) for v in box)
    close = portrait[..., top:bottom, left:right]
    found = detector.detect(close, confirm=landmarker.confirm)
    assert len(found) == 1
    assert overlap(found[0].box, [0.0, 0.0, right - left, bottom - top]) > 0.6


@pytest.mark.parametrize("turns", [1, 3])
def test_face_on_its_side(detector, landmarker, portrait, turns):
    (found,) = detector.detect(portrait.rot90(turns, (2, 3)), confirm=landmarker.confirm)
    line = found.keypoints[1] - found.keypoints[0]
    up = {1: -math.pi / 2, 3: math.pi / 2}[turns]  # rot90 turns counter-clockwise
    assert math.atan2(line[1], line[0]) == pytest.approx(up, abs=0.6)


def test_second_opinion_decides(detector, portrait):
    assert detector.detect(portrait, confirm=lambda image, detections: []) == []
    taken = detector.detect(portrait, confirm=lambda image, detections: detections)
    torch.testing.assert_close(taken[0].box, detector.detect(portrait)[0].box)


def test_without_a_sure_face_the_best_faint_one_is_taken(detector, portrait):
    score = detector.detect(portrait)[0].score
    found = detector.detect(portrait, score / 0.9, lambda image, detections: detections)
    assert [d.score >= 0.8 * score / 0.9 for d in found] == [True]


@pytest.mark.parametrize("size", [(300, 300), (200, 900), (37, 20)])
def test_searches_cover_every_pixel(size):
    image = torch.ones(1, 3, *size)
    whole, farther, turned, halves, quarters = searches(image)
    assert float(whole.size) == max(size)
    assert (farther.size / whole.size).tolist() == [2, 3]
    assert (turned.angle / (math.pi / 2)).round().tolist() == [1, 2, 3]
    for tiles in (halves, quarters):
        side = float(tiles.size[0])
        low, high = tiles.centre - side / 2, tiles.centre + side / 2
        pixels = torch.cartesian_prod(torch.arange(size[1]) + 0.5, torch.arange(size[0]) + 0.5)
        inside = ((pixels[:, None] > low) & (pixels[:, None] < high)).all(-1).any(1)
        assert inside.all()
        assert len(tiles) <= 25
    assert crop_regions(image, quarters, 8).shape == (len(quarters), 3, 8, 8)


def points(x, y, size):
    corners = torch.tensor([[x, y], [x + size, y + size]])
    return torch.cat((corners, corners.mean(0).expand(6, 2)))


def test_merging_averages_sure_boxes_by_score():
    boxes = torch.stack((points(0.0, 0, 10), points(1.0, 1, 10), points(2.0, 2, 10), points(50.0, 50, 10)))
    found = merge_overlapping(boxes, torch.tensor([0.9, 0.6, 0.5, 0.7]))
    assert [d.score for d in found] == pytest.approx([0.9, 0.7])
    torch.testing.assert_close(found[0].box, torch.tensor([0.4, 0.4, 10.4, 10.4]))  # 0.5 is below 0.6
    torch.testing.assert_close(found[0].keypoints, torch.full((6, 2), 5.4))


def test_merging_nothing():
    assert merge_overlapping(torch.zeros(0, 8, 2), torch.zeros(0)) == []


def test_merging_takes_boxes_without_area():
    assert len(merge_overlapping(points(3.0, 3, 0)[None], torch.tensor([0.9]))) == 1
