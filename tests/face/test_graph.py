"""The executor: every operation against a plain reference, the list of operations, and what is wrong with a file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vividtalk_core.errors import MissingFileError, WeightsError
from vividtalk_core.face import graph
from vividtalk_core.face.graph import Graph, GraphNetwork, Operation, load_network, read_graph, write_graph

ASSETS = Path(graph.__file__).parents[1] / "assets"


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def windows(x, kernel, stride):
    """Plain loops: [N, C, H', W', kh, kw] of a padded [N, C, H, W]."""
    rows = range(0, x.shape[2] - kernel[0] + 1, stride[0])
    columns = range(0, x.shape[3] - kernel[1] + 1, stride[1])
    cut = [[x[:, :, r : r + kernel[0], c : c + kernel[1]] for c in columns] for r in rows]
    return torch.stack([torch.stack(row, 2) for row in cut], 2)


@pytest.mark.parametrize("padding", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 2]])
def test_conv2d(padding):
    x, weight, bias = random(2, 3, 7, 6), random(4, 3, 3, 2, seed=1), random(4, seed=2)
    left, right, top, bottom = padding
    padded = torch.zeros(2, 3, 7 + top + bottom, 6 + left + right, dtype=x.dtype)
    padded[:, :, top : top + 7, left : left + 6] = x
    expected = torch.einsum("nchwij,ocij->nohw", windows(padded, (3, 2), (2, 1)), weight) + bias[:, None, None]
    torch.testing.assert_close(graph.conv2d(x, weight, bias, stride=[2, 1], padding=padding, groups=1), expected)


def test_depthwise_conv2d():
    x, weight, bias = random(1, 3, 5, 5), random(3, 1, 3, 3, seed=1), torch.zeros(3, dtype=torch.float64)
    expected = torch.einsum("nchwij,cij->nchw", windows(x, (3, 3), (1, 1)), weight[:, 0])
    result = graph.conv2d(x, weight, bias, stride=[1, 1], padding=[0, 0, 0, 0], groups=3)
    torch.testing.assert_close(result, expected)


def test_conv_transpose2d_with_kernel_as_stride_is_one_block_per_pixel():
    x, weight, bias = random(1, 2, 3, 4), random(2, 1, 2, 2, seed=1), random(1, seed=2)
    expected = torch.einsum("nchw,coij->nohiwj", x, weight).reshape(1, 1, 6, 8)[..., :5, :] + bias
    torch.testing.assert_close(graph.conv_transpose2d(x, weight, bias, stride=[2, 2], size=[5, 8]), expected)


def test_pooling():
    x = random(1, 2, 5, 4) - 5  # all negative: a padding of zero would win
    padded = torch.full((1, 2, 6, 4), -torch.inf, dtype=x.dtype)
    padded[:, :, :5] = x
    result = graph.max_pool2d(x, kernel=[2, 2], stride=[2, 2], padding=[0, 0, 0, 1])
    torch.testing.assert_close(result, windows(padded, (2, 2), (2, 2)).amax((-1, -2)))
    x = x[:, :, :4]
    expected = windows(x, (2, 2), (2, 2)).mean((-1, -2))
    torch.testing.assert_close(graph.avg_pool2d(x, kernel=[2, 2], stride=[2, 2]), expected)


def test_reshape_keeps_tensorflows_order():
    x = random(2, 3, 4, 5)
    last = x.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(graph.reshape(x, shape=[20, 3]).numpy(), last.reshape(2, 20, 3))
    back = graph.reshape(graph.reshape(x, shape=[60]), shape=[4, 5, 3])
    torch.testing.assert_close(back, x)


def test_resize_bilinear_of_tensorflow_1_takes_source_as_target_times_ratio():
    x = torch.arange(4.0).reshape(1, 1, 1, 4)
    result = graph.resize_bilinear(x, size=[1, 8], align_corners=False, half_pixel_centers=False)
    assert result.flatten().tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"align_corners": True, "half_pixel_centers": False}, [0, 1 / 3, 2 / 3, 1]),
        ({"align_corners": False, "half_pixel_centers": True}, [0, 0.25, 0.75, 1]),
    ],
)
def test_resize_bilinear_with_a_flag(flags, expected):
    x = torch.arange(2.0).reshape(1, 1, 2, 1)
    result = graph.resize_bilinear(x, size=[4, 1], **flags)
    torch.testing.assert_close(result.flatten(), torch.tensor(expected))


def test_depth_to_space():
    x = random(1, 12, 2, 3)
    last = x.numpy().transpose(0, 2, 3, 1).reshape(1, 2, 3, 2, 2, 3)  # rows, columns, dy, dx, channels
    expected = last.transpose(0, 1, 3, 2, 4, 5).reshape(1, 4, 6, 3).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(graph.depth_to_space(x, block=2).numpy(), expected)


def square(points, **changes):
    settings = {"subset": [0, 1, 2, 3], "left": 0, "right": 1, "target_angle": 0.0, "scale": [1.0, 1.0], "size": [4, 4]}
    return graph.square_matrix(points, **(settings | changes))


def test_square_matrix_of_an_upright_box():
    corners = torch.tensor([[[10.0, 20], [18, 20], [10, 24], [18, 24]]])
    ends = torch.tensor([[[0.0, 0], [4, 4], [2, 2]]])
    expected = torch.tensor([[[10.0, 20], [18, 24], [14, 22]]])
    torch.testing.assert_close(graph.transform_points(ends, square(corners)), expected)
    wider = graph.transform_points(ends, square(corners, scale=[2.0, 2.0]))
    torch.testing.assert_close(wider, torch.tensor([[[6.0, 18], [22, 26], [14, 22]]]))


def test_square_matrix_turns_with_the_points():
    points, angle = random(1, 4, 2), torch.tensor(0.7, dtype=torch.float64)
    turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).view(2, 2)
    ends = random(1, 5, 2, seed=1)
    once = graph.transform_points(ends, square(points)) @ turn.T
    torch.testing.assert_close(graph.transform_points(ends, square(points @ turn.T)), once)


def test_sample_square_cuts_out_pixels_and_leaves_zero_outside():
    x = torch.arange(20.0).reshape(1, 1, 4, 5)
    matrix = torch.eye(4)[None].clone()
    matrix[:, 0, 3], matrix[:, 1, 3] = 1, 2
    assert graph.sample_square(x, matrix, size=[3, 2])[0, 0].tolist() == [[11, 12, 13], [16, 17, 18]]
    matrix[:, 0, 3] = 3
    assert graph.sample_square(x, matrix, size=[3, 2])[0, 0].tolist() == [[13, 14, 0], [18, 19, 0]]


def tiny():
    operations = (
        Operation("conv2d", (0, "w", "b"), 1, {"stride": [1, 1], "padding": [0, 0, 0, 0], "groups": 1}),
        Operation("relu", (1,), 2),
        Operation("add", (2, 1), 3),
    )
    weights = {"w": torch.tensor([[[[2.0]], [[1.0]]]]).half(), "b": torch.tensor([-1.0]).half()}
    return Graph((2, 1, 2), {"sum": 3, "rectified": 2}, operations), weights


def test_network_runs_its_list_in_fp32_for_any_batch():
    network = GraphNetwork(*tiny())
    image = torch.tensor([[[[1.0, 0.0]], [[0.5, 0.25]]]]).repeat(3, 1, 1, 1)
    outputs = network(image)
    assert outputs["rectified"].dtype == torch.float32
    assert outputs["rectified"][2].tolist() == [[[1.5, 0.0]]]
    assert outputs["sum"][2].tolist() == [[[3.0, -0.75]]]
    assert GraphNetwork(*tiny()).double()(image.double())["sum"].dtype == torch.float64


def test_activations_are_dropped_after_their_last_use():
    assert tiny()[0].last_uses() == [[0], [], [1]]


def test_graph_survives_the_file(tmp_path):
    produced, weights = tiny()
    save_file(weights, tmp_path / "tiny.safetensors", {"graph": write_graph(produced)})
    network = load_network(tmp_path / "tiny.safetensors")
    assert network.graph == read_graph(write_graph(produced))
    assert write_graph(network.graph) == write_graph(produced)
    assert network.graph.outputs == {"sum": 3, "rectified": 2}


def test_wrong_image_size_is_named():
    with pytest.raises(ValueError, match=r"image must be \[N, 2, 1, 2\]; got \[1, 2, 1, 3\]"):
        GraphNetwork(*tiny())(torch.zeros(1, 2, 1, 3))


def test_weights_must_be_those_of_the_graph():
    produced, weights = tiny()
    with pytest.raises(WeightsError, match=r"missing \['b'\], unexpected \['c'\]"):
        GraphNetwork(produced, {"w": weights["w"], "c": weights["b"]})


def test_graph_refuses_what_it_cannot_run():
    with pytest.raises(WeightsError, match="not known here: fft, sort"):
        Graph((1, 1, 1), {}, (Operation("sort", (0,), 1), Operation("fft", (0,), 2)))
    with pytest.raises(WeightsError, match=r"no operation computes: \[7, 8\]"):
        Graph((1, 1, 1), {"out": 8}, (Operation("relu", (7,), 1),))


def test_missing_file():
    with pytest.raises(MissingFileError, match=r"there is no weight file .nowhere\.safetensors"):
        load_network(Path("nowhere.safetensors"))


def test_truncated_file(tmp_path):
    path = tmp_path / "detector.safetensors"
    path.write_bytes((ASSETS / "detector.safetensors").read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"detector\.safetensors. is truncated or damaged: 100000 bytes"):
        load_network(path)


def test_file_of_something_else(tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match="has no graph in its header"):
        load_network(tmp_path / "plain.safetensors")


@pytest.mark.parametrize("text", ["[", "[]", "{}", '{"operations": [{"name": "relu"}], "input_shape": [1, 1, 1]}'])
def test_a_damaged_graph_is_named(tmp_path, text):
    save_file({"w": torch.zeros(1)}, tmp_path / "odd.safetensors", {"graph": text})
    with pytest.raises(WeightsError, match=r"odd\.safetensors.: the graph cannot be read"):
        load_network(tmp_path / "odd.safetensors")


def test_file_with_an_unknown_operation_is_named(tmp_path):
    content = json.loads(write_graph(tiny()[0]))
    content["operations"][1]["name"] = "unknown_op"
    save_file(tiny()[1], tmp_path / "new.safetensors", {"graph": json.dumps(content)})
    with pytest.raises(WeightsError, match=r"new\.safetensors.: the graph uses operations .* unknown_op"):
        load_network(tmp_path / "new.safetensors")


@pytest.mark.parametrize("name", ["detector", "landmarks", "segmentation"])
def test_embedded_networks_are_half_precision_and_do_not_depend_on_the_batch(name):
    network = load_network(ASSETS / f"{name}.safetensors")
    assert (ASSETS / f"{name}.safetensors").stat().st_size < 2.6 * sum(b.numel() for b in network.buffers())
    images = torch.rand(2, *network.graph.input_shape, generator=torch.Generator().manual_seed(0))
    both, second = network(images), network(images[1:])
    for output in both:
        torch.testing.assert_close(both[output][1:], second[output], rtol=1e-3, atol=2e-3)
