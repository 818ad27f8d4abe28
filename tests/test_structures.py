import dataclasses

import pytest
import torch

from vividtalk_core.structures import (
    ARKIT_NAMES,
    Audio,
    AudioFeatures,
    Backdrop,
    DenseMotion,
    Expression,
    Fragments,
    GeneratedFrames,
    HeadMotion,
    HeadPose,
    MeshSequence,
    MirrorFill,
    MirrorView,
    NccRender,
    Paint,
    Regions,
    SourceView,
    check_shapes,
)

T, V, F = 5, 4, 2


def numbers(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def fragments(frames, size=8):
    index = torch.zeros(frames, size, size, dtype=torch.int64)
    return Fragments(index, numbers(frames, size, size, 3), numbers(frames, size, size))


def mesh(frames):
    return MeshSequence(numbers(frames, V, 3), torch.zeros(F, 3, dtype=torch.int64), 25.0)


def motion():
    fill = MirrorFill(numbers(T, 8, 8, 2), numbers(T, 1, 8, 8), numbers(T, 3, 8, 8))
    backdrop = Backdrop(numbers(1, 3, 8, 8), numbers(1, 1, 8, 8), numbers(T, 1, 8, 8))
    return DenseMotion(numbers(T, 8, 8, 2), numbers(T, 1, 8, 8), fill, backdrop)


def paint(beneath=None):
    return Paint(numbers(T, 3, 6, 7), numbers(T, 1, 6, 7), numbers(T, 4), beneath)


def view_fields():
    masks = torch.zeros(F, dtype=torch.bool)
    return {
        "face": None,
        "mesh": mesh(1),
        "pixels": numbers(V, 3),
        "fragments": fragments(1, 256),
        "confidence": numbers(V),
        "mirror": MirrorView(numbers(V, 2), numbers(V), numbers(V), numbers(V, 3)),
        "follow": numbers(256, 256),
        "carry": numbers(256, 256),
        "matte": numbers(256, 256),
        "hole": numbers(256, 256),
        "plate": numbers(1, 3, 256, 256),
        "border": numbers(256, 256),
        "eyes": numbers(1, 1, 256, 256),
        "light": numbers(9),
        "regions": Regions(numbers(V), torch.zeros(V, dtype=torch.bool), numbers(V), masks, masks, masks, masks),
    }


def render():
    return NccRender(
        ncc=numbers(T, 3, 8, 8),
        face_mask=numbers(T, 1, 8, 8),
        projected_texture=numbers(T, 3, 8, 8),
        lip_maps=numbers(T, 3, 4, 4),
        fragments=fragments(T),
        mesh=mesh(T),
        view=SourceView(**view_fields()),
    )


VALUES = {
    "HeadPose": lambda: HeadPose(numbers(T, 3), numbers(T, 3), 25.0),
    "HeadMotion": lambda: HeadMotion(numbers(T, 3), numbers(T, 3), 25.0),
    "Expression": lambda: Expression(numbers(T, 52), numbers(T, V, 3), 25.0, numbers(52), numbers(V, 3)),
    "MeshSequence": lambda: mesh(T),
    "Fragments": lambda: fragments(T),
    "NccRender": render,
    "DenseMotion": motion,
    "Paint": paint,
    "Paint with what is beneath": lambda: paint(numbers(T, 3, 6, 7)),
    "GeneratedFrames": lambda: GeneratedFrames(motion(), (paint(), paint(numbers(T, 3, 6, 7))), 25.0),
}
# fields that do not depend on time
CONSTANT = {"plate", "hole", "triangles", "neutral_coefficients", "neutral_lip_offsets"}


def assert_frames(part, whole, chosen):
    """Every field with frames is cut, every other one is the same object."""
    assert type(part) is type(whole)
    for field in dataclasses.fields(whole):
        cut, full = getattr(part, field.name), getattr(whole, field.name)
        if isinstance(full, torch.Tensor) and field.name not in CONSTANT:
            assert torch.equal(cut, full[chosen]), field.name
        elif dataclasses.is_dataclass(full) and not isinstance(full, SourceView):
            assert_frames(cut, full, chosen)
        elif isinstance(full, tuple):
            for one, other in zip(cut, full, strict=True):
                assert_frames(one, other, chosen)
        else:
            assert cut is full, field.name


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("chosen", [slice(1, 4), slice(0, 0), slice(3, 9), slice(None)], ids=str)
def test_frames_cut_every_field_that_has_frames(make, chosen):
    whole = make()
    assert whole.frame_count == T
    part = whole.frames(chosen)
    assert part.frame_count == len(range(T)[chosen])
    assert_frames(part, whole, chosen)


def test_values_are_frozen():
    for make in VALUES.values():
        value = make()
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)


def test_audio_knows_its_duration():
    audio = Audio(torch.zeros(2, 24_000), 16_000)
    assert audio.duration_s == 1.5
    waveform, rate = audio  # a plain pair, as libraries give it
    assert (waveform.shape, rate) == ((2, 24_000), 16_000)


def test_from_rest_needs_no_frames():
    expression = Expression.from_rest(torch.zeros(0, 52), torch.zeros(0, V, 3), 25.0)
    assert (expression.frame_count, expression.baseline) == (0, "rest")
    assert (expression.neutral_coefficients.shape, expression.neutral_lip_offsets.shape) == ((52,), (V, 3))
    assert not Expression.from_rest(numbers(T, 52), numbers(T, V, 3), 25.0).neutral_coefficients.any()


def test_features_have_rows_of_states_at_a_rate_of_their_own():
    assert AudioFeatures(numbers(28, 80), 7, 25.0, 0.28, numbers(14, 32)).states.shape == (14, 32)
    with pytest.raises(ValueError, match=r"states must be \[S, D\]; got \[14\]"):
        AudioFeatures(numbers(28, 80), 7, 25.0, 0.28, numbers(14))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mesh": mesh(2)}, r"vertices must be \[1, V, 3\]"),
        ({"pixels": numbers(V + 1, 3)}, rf"pixels must be \[V, 3\], V = {V}; got \[{V + 1}, 3\]"),
        ({"fragments": fragments(1, 8)}, r"triangle_index must be \[1, 256, 256\]; got \[1, 8, 8\]"),
        ({"confidence": numbers(V, 1)}, r"confidence must be \[V\]"),
        ({"follow": numbers(8, 8)}, r"follow must be \[256, 256\]"),
        ({"border": numbers(8, 8)}, r"border must be \[256, 256\]"),
        ({"eyes": numbers(256, 256)}, r"eyes must be \[1, 1, 256, 256\]"),
    ],
)
def test_a_source_view_is_checked(change, message):
    with pytest.raises(ValueError, match=message):
        SourceView(**view_fields() | change)


def test_a_render_is_checked_with_its_parts():
    with pytest.raises(ValueError, match=rf"triangle_index must be \[T, H, W\], T = {T}"):
        dataclasses.replace(render(), fragments=fragments(T - 1))


def test_paint_replaces_a_picture_of_its_own_size():
    with pytest.raises(ValueError, match=r"beneath must be \[T, 3, h, w\]"):
        paint(numbers(T, 3, 7, 6))


def test_shapes_agree_across_fields():
    with pytest.raises(ValueError, match=r"normals must be \[T, V, 3\], T = 5, V = 10; got \[4, 10, 3\]"):
        check_shapes(vertices=(torch.zeros(5, 10, 3), "T V 3"), normals=(torch.zeros(4, 10, 3), "T V 3"))


def test_mesh_sequence_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"triangles must be \[F, 3\].*got \[7, 4\]"):
        MeshSequence(torch.zeros(5, 10, 3), torch.zeros(7, 4, dtype=torch.int64), 25.0)


def test_expression_neutral_must_have_the_same_names():
    with pytest.raises(ValueError, match="neutral_coefficients"):
        Expression(torch.zeros(3, 52), torch.zeros(3, 20, 3), 25.0, torch.zeros(51), torch.zeros(20, 3))


def test_arkit_names_are_52_and_sorted():
    assert len(set(ARKIT_NAMES)) == 52
    assert list(ARKIT_NAMES) == sorted(ARKIT_NAMES)


def test_joining_reads_one_part_at_a_time_and_counts_the_frames():
    motion = DenseMotion(torch.rand(5, 4, 4, 2), torch.rand(5, 1, 4, 4))
    parts = [motion.frames(slice(0, 2)), motion.frames(slice(2, 5))]
    joined = DenseMotion.joined(iter(parts), 5)
    assert torch.equal(joined.flow, motion.flow) and torch.equal(joined.occlusion, motion.occlusion)
    assert DenseMotion.joined([motion], 5) is motion
    for wrong, came in (([], 0), (parts[:1], 2)):
        with pytest.raises(ValueError, match=f"5 frames were announced and {came} came"):
            DenseMotion.joined(wrong, 5)
