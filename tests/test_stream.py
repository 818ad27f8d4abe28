import pytest
import torch

from vividtalk_core.video.stream import frame_ranges, stream_frames


def render(part):
    return torch.arange(part.start, part.stop).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_the_chunk_does_not_change_the_result(chunk):
    pieces = list(stream_frames(render, 7, chunk))
    assert torch.equal(torch.cat(pieces), render(slice(0, 7)))
    assert max(map(len, pieces)) <= chunk


def test_ranges():
    assert list(frame_ranges(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert not list(frame_ranges(0, 2))
    with pytest.raises(ValueError, match="must not be negative; got -1"):
        list(frame_ranges(-1, 2))
    with pytest.raises(ValueError, match="at least 1 frame; got 0"):
        list(frame_ranges(5, 0))


def test_pieces_are_made_when_asked_for():
    made = []
    stream = stream_frames(lambda part: made.append(part) or render(part), 6, 2)
    next(stream)
    assert made == [slice(0, 2)]


def test_progress_can_cancel():
    seen = []

    def progress(done, total, preview):
        seen.append((done, total, int(preview[0, 0, 0])))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(stream_frames(render, 6, 2, progress))
    assert seen == [(2, 6, 1), (4, 6, 3)]


def test_a_short_piece_is_an_error():
    with pytest.raises(ValueError, match="frames 0 to 2 were asked for; got 1"):
        list(stream_frames(lambda part: render(part)[:1], 6, 2))
