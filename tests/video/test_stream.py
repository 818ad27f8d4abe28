import dataclasses

import pytest
import torch

from vividtalk_core.hub import EMBEDDED
from vividtalk_core.pipeline import TalkSettings, talk
from vividtalk_core.video.reader import read_image
from vividtalk_core.video.stream import chunk_frames, frame_ranges


def test_ranges_cover_every_frame_once():
    assert list(frame_ranges(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(frame_ranges(2, 100)) == [slice(0, 2)]
    assert not list(frame_ranges(0, 2))


def test_impossible_ranges():
    with pytest.raises(ValueError, match="must not be negative; got -1"):
        list(frame_ranges(-1, 2))
    with pytest.raises(ValueError, match="at least 1 frame; got 0"):
        list(frame_ranges(5, 0))


@pytest.mark.parametrize(("side", "frames"), [(256, 8), (512, 8), (1024, 4), (2048, 1), (4096, 1)])
def test_large_frames_come_in_smaller_chunks(side, frames):
    assert chunk_frames(8, side, side) == frames


def test_the_chunk_does_not_change_the_video():
    portrait = read_image(EMBEDDED / "demo" / "portrait.jpg")
    noise = torch.rand(1, 3200, generator=torch.Generator().manual_seed(0)) - 0.5
    stream = talk(portrait, (noise, 16000), TalkSettings(chunk=2))
    pieces = list(stream)
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    (whole,) = dataclasses.replace(stream, settings=TalkSettings(chunk=50))
    assert torch.equal(torch.cat(pieces), whole)
