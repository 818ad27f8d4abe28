"""`vividtalk track`: video → motion curves."""

from __future__ import annotations

import argparse
import sys

from ..face.models import FaceModels, load_face_models
from ..face.track import Track, track_video
from ..files import check_writable
from ..hub import resolve_weights
from ..motion.files import SUFFIXES, write_curves
from ..motion.head_pose import relative_to_frame
from ..video.reader import VideoClip, read_video
from .progress import ProgressBar


def run(args: argparse.Namespace) -> None:
    """Write the curves of the face in a video; head motion is relative to the first frame, which is all zero."""
    # before the tracking, which takes minutes for a long video
    check_writable(args.out, SUFFIXES)
    clip = read_video(args.video, with_audio=False)
    track = track_clip(clip, load_face_models(resolve_weights(args.weights)), args.progress)
    write_curves(args.out, track.expression, relative_to_frame(track.pose), track.vertices_2d, track.landmarks_2d)
    sys.stdout.write(f"{args.out}: {track.pose.frame_count} frames at {clip.fps:g} fps\n")


def track_clip(clip: VideoClip, models: FaceModels, shown: bool = True) -> Track:
    """Track the face of an open video, with a progress bar if `shown`."""
    return track_video(models, clip.frames, clip.fps, ProgressBar("track", shown, clip.frame_count))
