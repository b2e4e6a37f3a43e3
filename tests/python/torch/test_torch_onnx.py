"""The Conv cases that ONNX tests its back ends with, by a small back end of our own."""

import numpy
import pytest

import fonio
import fonio.torch

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
from onnx import helper, numpy_helper  # noqa: E402
from onnx.backend.test.case import node as node_cases  # noqa: E402
from onnx.backend.test.loader import load_model_tests  # noqa: E402


def conv(node, image, weight, bias=None):
    """An ONNX Conv of two dimensions. Padding that torch does not have is that of fonio.conv2d."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    stride = tuple(attributes.get("strides", (1, 1)))
    dilation = tuple(attributes.get("dilations", (1, 1)))
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    auto_pad = attributes.get("auto_pad", b"NOTSET").decode()
    names = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid", "NOTSET": (top, bottom, left, right)}
    padding = names[auto_pad]
    groups = attributes.get("group", 1)
    if auto_pad == "NOTSET" and (top, left) == (bottom, right):
        arrays = [None if array is None else torch.from_numpy(array.copy()) for array in (image, weight, bias)]
        return fonio.torch.conv2d(*arrays, stride, (top, left), dilation, groups).numpy()
    return fonio.conv2d(image, weight, bias, stride, padding, dilation, groups)


def run(model, inputs):
    """The outputs of a model that has one node, a Conv."""
    (node,) = model.graph.node
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    names = [entry.name for entry in model.graph.input if entry.name not in values]
    values.update(zip(names, inputs, strict=False))
    return conv(node, *(values[name] for name in node.input))


NODES = [
    case for case in node_cases.collect_testcases("Conv") if case.name.startswith(("test_basic_conv", "test_conv_with"))
]
CONVERTED = [case for case in load_model_tests(kind="pytorch-converted") if case.name.startswith("test_Conv2d")]


@pytest.mark.parametrize("case", NODES, ids=lambda case: case.name)
def test_node(case):
    for inputs, outputs in case.data_sets:
        numpy.testing.assert_allclose(run(case.model, inputs), outputs[0], rtol=case.rtol, atol=1e-6)


@pytest.mark.parametrize("case", CONVERTED, ids=lambda case: case.name)
def test_converted(case):
    def load(path):
        tensor = onnx.TensorProto()
        with open(path, "rb") as file:
            tensor.ParseFromString(file.read())
        return numpy_helper.to_array(tensor)

    folder = f"{case.model_dir}/test_data_set_0"
    model = onnx.load(f"{case.model_dir}/model.onnx")
    numpy.testing.assert_allclose(
        run(model, [load(f"{folder}/input_0.pb")]), load(f"{folder}/output_0.pb"), rtol=1e-3, atol=1e-5
    )


def test_there_are_cases():
    assert len(NODES) >= 6 and len(CONVERTED) >= 9
