import pytest
import torch

from vividtalk_core.structures import ARKIT_NAMES, Expression, MeshSequence, check_shapes


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
