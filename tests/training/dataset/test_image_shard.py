"""Pair shards: what is written is read, what is damaged is refused, and what a batch is made of."""

from dataclasses import fields, replace

import pytest
import torch

from vividtalk_core.errors import DatasetError
from vividtalk_core.hub import load_tensors, read_header, save_tensors
from vividtalk_core.training.dataset.image_shard import (
    STEP_SIZE,
    TENSORS,
    PairShard,
    load_pairs,
    read_pairs,
    to_batch,
    write_pairs,
)
from vividtalk_core.training.dataset.layout import PAIRS

RUNS = 3


def make(name="a.00004", split="train", identity="Ada"):
    """A portrait with three runs of random pictures."""
    generator = torch.Generator().manual_seed(len(name))

    def picture(*shape):
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def motion(*shape):
        return (0.05 * torch.randn(*shape, generator=generator)).half()

    return PairShard(
        name=name,
        identity=identity,
        split=split,
        source=picture(3, 256, 256),
        source_ncc=picture(4, 256, 256),
        source_points=256 * torch.rand(478, 2, generator=generator),
        source_lips=256 * torch.rand(20, 2, generator=generator),
        follow=picture(1, 256, 256),
        target=picture(RUNS, 2, 3, 256, 256),
        ncc=picture(RUNS, 2, 4, 256, 256),
        flow=motion(RUNS, 2, 256, 256, 2),
        occlusion=picture(RUNS, 2, 1, 256, 256),
        scene=picture(RUNS, 2, 4, 256, 256),
        paint=picture(RUNS, 2, 4, 256, 256),
        points=256 * torch.rand(RUNS, 2, 478, 2, generator=generator),
        lips=256 * torch.rand(RUNS, 2, 20, 2, generator=generator),
        step=motion(RUNS, STEP_SIZE, STEP_SIZE, 2),
        step_mask=torch.full((RUNS, 1, STEP_SIZE, STEP_SIZE), 255, dtype=torch.uint8),
    )


@pytest.fixture(scope="module")
def shard():
    return make()


@pytest.fixture
def file(tmp_path, shard):
    path = tmp_path / PAIRS / "a.safetensors"
    write_pairs(path, shard)
    return path


def test_round_trip(file, shard):
    again = read_pairs(file)
    assert again.runs == RUNS
    for field in fields(PairShard):
        a, b = getattr(again, field.name), getattr(shard, field.name)
        assert a.dtype == b.dtype and torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name
    assert [path.name for path in file.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("target", (RUNS, 3, 3, 256, 256), r"target must be \[N, 2, 3, 256, 256\].*got \[3, 3, 3, 256, 256\]"),
        ("flow", (1, 2, 256, 256, 2), r"flow must be \[N, 2, 256, 256, 2\], N = 3; got \[1, "),
        ("lips", (RUNS, 2, 7, 2), r"lips must be \[N, 2, K, 2\], N = 3, K = 20; got \[3, 2, 7, 2\]"),
        ("step", (RUNS, 256, 256, 2), r"step must be \[N, 128, 128, 2\]"),
    ],
)
def test_shapes_are_checked(shard, name, shape, message):
    with pytest.raises(ValueError, match=message):
        replace(shard, **{name: torch.zeros(shape)})


def test_unknown_splits_are_refused(tmp_path, shard):
    with pytest.raises(ValueError, match=r"the split of a\.00004 must be one of train, validation, test; got 'all'"):
        replace(shard, split="all")
    with pytest.raises(ValueError, match="a split is one of train, validation, test; got 'all'"):
        load_pairs(tmp_path, "all")


def test_other_and_damaged_files_are_refused_with_their_name(file):
    tensors, header = load_tensors(file), read_header(file)
    save_tensors(file, tensors, header | {"format": "pairs-0"})
    with pytest.raises(ValueError, match=r"a\.safetensors has the format 'pairs-0', not 'pairs-2': run `train pairs`"):
        read_pairs(file)
    save_tensors(file, {name: value for name, value in tensors.items() if name not in ("flow", "lips")}, header)
    with pytest.raises(ValueError, match=r"a\.safetensors is not a whole shard: flow, lips missing; run `train pairs`"):
        read_pairs(file)
    save_tensors(file, tensors | {"step": torch.zeros(1)}, header)
    with pytest.raises(DatasetError, match=r"a\.safetensors is not a whole shard \(step must be .*run `train pairs`"):
        read_pairs(file)
    save_tensors(file, tensors, header)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"a\.safetensors' is truncated"):
        read_pairs(file)


def test_a_folder_is_read_by_split_and_in_order(tmp_path):
    for name, split in (("b", "train"), ("a", "train"), ("c", "validation")):
        write_pairs(tmp_path / PAIRS / f"{name}.safetensors", make(name, split))
    assert [shard.name for shard in load_pairs(tmp_path, "train")] == ["a", "b"]
    assert [shard.name for shard in load_pairs(tmp_path, "validation")] == ["c"]
    assert load_pairs(tmp_path, "test") == []
    with pytest.raises(DatasetError, match="has no folder 'pairs': make it with `train pairs`"):
        load_pairs(tmp_path / PAIRS, "train")


def test_a_batch_is_float_and_named_as_the_networks_want_it(shard):
    other = make("b.1")
    batch = to_batch([(shard, 2), (other, 0)])
    assert batch.keys() == {*TENSORS, "mask", "source_mask"}
    assert all(value.dtype == torch.float32 and len(value) == 2 for value in batch.values())
    for run, (one, number) in enumerate(((shard, 2), (other, 0))):
        torch.testing.assert_close(batch["target"][run], one.target[number].float() / 255)
        torch.testing.assert_close(batch["flow"][run], one.flow[number].float())
        torch.testing.assert_close(batch["ncc"][run], one.ncc[number, :, :3].float() / 255)
        torch.testing.assert_close(batch["mask"][run], one.ncc[number, :, 3:].float() / 255)
        torch.testing.assert_close(batch["source_ncc"][run], one.source_ncc[:3].float() / 255)
        torch.testing.assert_close(batch["source_mask"][run], one.source_ncc[3:].float() / 255)
        assert torch.equal(batch["points"][run], one.points[number])
        assert torch.equal(batch["source_lips"][run], one.source_lips)


def test_steps_are_read_at_full_size_and_known_where_all_around_is(shard):
    mask = torch.full((RUNS, 1, STEP_SIZE, STEP_SIZE), 255, dtype=torch.uint8)
    mask[..., 64:] = 0
    step = torch.zeros(RUNS, STEP_SIZE, STEP_SIZE, 2, dtype=torch.float16)
    step[..., :64, 0] = 0.25
    batch = to_batch([(replace(shard, step=step, step_mask=mask), 0)])
    assert batch["step"].shape == (1, 256, 256, 2) and batch["step_mask"].shape == (1, 1, 256, 256)
    known = batch["step_mask"][0, 0] == 1
    assert (batch["step"][0, known] == torch.tensor((0.25, 0.0))).all()
    assert known[:, :126].all() and not known[:, 128:].any()
