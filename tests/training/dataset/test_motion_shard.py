"""Shards: what is written is read, and what is damaged or foreign is refused."""

from dataclasses import fields, replace

import pytest
import torch

from vividtalk_core.errors import DatasetError
from vividtalk_core.hub import load_tensors, read_header, save_tensors
from vividtalk_core.structures import ARKIT_NAMES
from vividtalk_core.training.dataset.layout import shard_path
from vividtalk_core.training.dataset.motion_shard import Shard, load_shards, read_shard, write_shard

FRAMES, LIPS = 6, 4


@pytest.fixture
def shard():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(*shape, generator=generator)

    return Shard(
        name="a__b.mp4",
        identity="Ada",
        split="train",
        licence="CC0",
        lag_frames=-2,
        has_pose=True,
        has_offsets=False,
        known=("jawOpen", "mouthFunnel"),
        coefficients=random(FRAMES, 52),
        lip_offsets=random(FRAMES, LIPS, 3).half(),
        rotation=random(FRAMES, 3),
        translation=random(FRAMES, 3),
        neutral_coefficients=random(52),
        neutral_lip_offsets=random(LIPS, 3),
        aperture=random(FRAMES),
        width=random(FRAMES),
        upper_face=random(FRAMES, 3),
        valid=torch.tensor([1, 1, 0, 1, 1, 1], dtype=torch.uint8),
        id_coefficients=random(7),
        waveform=(random(640 * FRAMES) * 30000).to(torch.int16),
    )


def same(first, second):
    for field in fields(Shard):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert a.dtype == b.dtype and torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


def test_round_trip(tmp_path, shard):
    path = shard_path(tmp_path, shard.name)
    write_shard(path, shard)
    assert path == tmp_path / "clips" / "a__b.mp4.safetensors"
    same(read_shard(path), shard)
    assert read_header(path)["format"] == "2"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("known", [ARKIT_NAMES, (), ("jawOpen",)])
def test_known_coefficients(tmp_path, shard, known):
    write_shard(tmp_path / "a.safetensors", replace(shard, known=known))
    read = read_shard(tmp_path / "a.safetensors")
    assert read.known == known
    assert read.known_mask.shape == (52,)
    assert [name for name, is_known in zip(ARKIT_NAMES, read.known_mask, strict=True) if is_known] == list(known)


def test_clip_without_sound(tmp_path, shard):
    write_shard(tmp_path / "a.safetensors", replace(shard, waveform=torch.zeros(0, dtype=torch.int16)))
    assert read_shard(tmp_path / "a.safetensors").waveform.shape == (0,)


def test_load_shards_of_a_split_by_name(tmp_path, shard):
    for name, split in (("c", "train"), ("a", "train"), ("b", "validation")):
        write_shard(shard_path(tmp_path, name), replace(shard, name=name, split=split))
    assert [s.name for s in load_shards(tmp_path, "train")] == ["a", "c"]
    assert [s.name for s in load_shards(tmp_path, "validation")] == ["b"]
    assert load_shards(tmp_path, "test") == []


def test_what_is_refused(tmp_path, shard):
    with pytest.raises(FileNotFoundError, match=r"there is no shard .*x\.safetensors; `train prepare` makes them"):
        read_shard(tmp_path / "x.safetensors")
    with pytest.raises(DatasetError, match="has no folder 'clips': make it with `train prepare`"):
        load_shards(tmp_path, "train")
    with pytest.raises(ValueError, match="a split is one of train, validation, test; got 'dev'"):
        load_shards(tmp_path, "dev")
    with pytest.raises(ValueError, match=r"the split of a__b\.mp4 must be one of train, validation, test; got 'dev'"):
        replace(shard, split="dev")
    with pytest.raises(ValueError, match=r"the sound of a__b\.mp4 has 5 samples; it must have 0 or 3840"):
        replace(shard, waveform=torch.zeros(5, dtype=torch.int16))
    with pytest.raises(ValueError, match=r"aperture must be \[T\], T = 6; got \[5\]"):
        replace(shard, aperture=torch.zeros(5))


def test_another_format_or_half_a_shard(tmp_path, shard):
    path = tmp_path / "a.safetensors"
    write_shard(path, shard)
    header, tensors = read_header(path), load_tensors(path)
    save_tensors(path, tensors, header | {"format": "0"})
    with pytest.raises(ValueError, match="is a shard of format '0', not '2': prepare it again"):
        read_shard(path)
    del tensors["rotation"], tensors["width"]
    save_tensors(path, tensors, header)
    with pytest.raises(ValueError, match="is not a whole shard: rotation, width missing"):
        read_shard(path)


def test_a_shard_whose_parts_do_not_fit_is_refused(tmp_path, shard):
    path = tmp_path / "a.safetensors"
    write_shard(path, shard)
    tensors, header = load_tensors(path), read_header(path)
    save_tensors(path, tensors | {"aperture": torch.zeros(FRAMES + 1)}, header)
    with pytest.raises(DatasetError, match=r"not a whole shard \(aperture must be \[T\], T = 6; got \[7\]\)"):
        read_shard(path)
    for change in ({"lag_frames": "late"}, {"split": "walk"}):
        save_tensors(path, tensors, header | change)
        with pytest.raises(DatasetError, match="not a whole shard"):
            read_shard(path)
    save_tensors(path, tensors, {name: value for name, value in header.items() if name != "identity"})
    with pytest.raises(DatasetError, match="'identity'"):
        read_shard(path)
