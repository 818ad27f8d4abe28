"""Makes mediapipe_reference.npz: what MediaPipe itself finds in views of the public-domain astronaut.

    pip install mediapipe==0.10.21 "numpy<2"      (Python 3.11)
    python tests/data/make_reference.py

The views are computed with integers and plain numpy, so that any version makes the same pixels.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
FACE_MESH = "mediapipe/modules/face_landmark/face_landmark_front_cpu.binarypb"


def views(path: Path = HERE / "astronaut.png") -> dict[str, NDArray]:
    """Name → [H, W, 3] uint8 RGB."""
    image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
    height, width = image.shape[:2]
    gray = (image.astype(np.int64) @ (77, 150, 29)) >> 8
    wide = np.full((height, 2 * width, 3), 90, np.uint8)
    wide[:, 150 : 150 + width] = image
    return {
        "as it is": image,
        "mirrored": image[:, ::-1].copy(),
        "grayscale": np.repeat(gray[..., None], 3, -1).astype(np.uint8),
        "dark": (image.astype(np.int64) * 2 // 5).astype(np.uint8),
        "half": resampled(image, 0.5, 0, (height // 2, width // 2)),
        "triple": resampled(image, 3, 0, (height * 3, width * 3)),
        "turned left": resampled(image, 1, -0.4, (height, width)),
        "turned right": resampled(image, 1.5, 0.6, (height, width)),
        "face fills it": image[20:190, 40:210].copy(),
        "wide": wide,
    }


def resampled(image: NDArray, scale: float, angle: float, shape: tuple[int, int]) -> NDArray:
    """Scaled and turned about the middle, bilinear in 1/256 px, borders repeated."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    y, x = (rows - (shape[0] - 1) / 2) / scale, (columns - (shape[1] - 1) / 2) / scale
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = cos * x - sin * y + (image.shape[1] - 1) / 2, sin * x + cos * y + (image.shape[0] - 1) / 2
    x, y = (
        np.round(np.clip(v, 0, n - 1) * 256).astype(np.int64) for v, n in ((x, image.shape[1]), (y, image.shape[0]))
    )
    column, row = np.minimum(x >> 8, image.shape[1] - 2), np.minimum(y >> 8, image.shape[0] - 2)
    right, down = (x - (column << 8))[..., None], (y - (row << 8))[..., None]
    wide = image.astype(np.int64)
    top = wide[row, column] * (256 - right) + wide[row, column + 1] * right
    bottom = wide[row + 1, column] * (256 - right) + wide[row + 1, column + 1] * right
    return ((top * (256 - down) + bottom * down + (1 << 15)) >> 16).astype(np.uint8)


def main() -> None:
    import mediapipe
    from mediapipe.python.solution_base import SolutionBase

    # mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True), with its regions
    mesh = SolutionBase(
        binary_graph_path=FACE_MESH,
        side_inputs={"num_faces": 1, "with_attention": True, "use_prev_landmarks": False},
        outputs=["multi_face_landmarks", "face_rects_from_detections"],
    )
    detector = mediapipe.solutions.face_detection.FaceDetection(0.5, model_selection=1)
    segmenter = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    regions, landmarks, detections = [], [], []
    for image in views().values():
        height, width = image.shape[:2]
        found = mesh.process({"image": image})
        rect, points = found.face_rects_from_detections[0], found.multi_face_landmarks[0].landmark
        regions.append((rect.x_center * width, rect.y_center * height, rect.width * width, rect.rotation))
        landmarks.append([(p.x * width, p.y * height, p.z * width) for p in points])
        best = detector.process(image).detections[0]
        box, points = best.location_data.relative_bounding_box, best.location_data.relative_keypoints
        corners = [(box.xmin, box.ymin), (box.xmin + box.width, box.ymin + box.height)]
        corners += [(p.x, p.y) for p in points]
        detections.append([best.score[0], *(np.array(corners) * (width, height)).ravel()])
    mask = segmenter.process(views()["as it is"]).segmentation_mask
    np.savez_compressed(
        HERE / "mediapipe_reference.npz",
        names=np.array(list(views())),
        regions=np.array(regions, np.float32),  # [N, 4] centre x, centre y, size in px, angle in rad
        landmarks=np.array(landmarks, np.float32),  # [N, 478, 3] px
        detections=np.array(detections, np.float32),  # [N, 17] score, box and keypoints in px
        mask=(mask * 255).round().astype(np.uint8),  # [256, 256] of the first view
    )


if __name__ == "__main__":
    main()
