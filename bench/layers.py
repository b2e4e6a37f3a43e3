"""The layers of the suite, and the arrays of one layer."""

import csv
import dataclasses
import pathlib
import re

import torch
import torch.nn.functional as F

from bench import library

SUITE = pathlib.Path(__file__).with_name("layers.csv")
TORCH_PADDING_MODES = {"zeros": "constant"}  # the others are called as in nn.Conv2d


def read_suite():
    """name, network and problem of each layer, in the order of the file."""
    with SUITE.open(newline="") as file:
        return [tuple(row) for row in list(csv.reader(file))[1:]]


def own(word):
    """A layer that the suite does not have, by its problem string."""
    try:
        problem = library.parse(word)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    if problem.has_residual or problem.activation:
        raise ValueError(f"{word}: the peers' convolutions are measured without a residual and an activation")
    return word, "", word


def in_suite(suite, word):
    """The rows whose names it is, or matches."""
    try:
        return [row for row in suite if row[0] == word] or [row for row in suite if re.fullmatch(word, row[0])]
    except re.error as error:
        raise ValueError(f"{word!r} is no regular expression: {error}") from None


def choose(wanted):
    """The layers of the suite that `wanted` names: names, regular expressions for whole names, or problem strings. A
    ValueError says which word is none of these."""
    suite = read_suite()
    if not wanted:
        return suite
    chosen = []
    for word in wanted:
        found = in_suite(suite, word)
        if not found and re.match(r"(n\d+)?c\d", word):
            found = [own(word)]
        if not found:
            raise ValueError(f"no layer of the suite is called {word!r}, nor is it a problem string")
        chosen += [row for row in found if row not in chosen]
    return chosen


def problem_string(text, batch, dtype, layout):
    """A problem string of the suite with batch (None: its own), dtype and layout of this run."""
    text = re.sub(r"t(f32|f64)|l(nchw|nhwc)", "", text)
    if batch:
        text = f"n{batch}" + re.sub(r"^n\d+", "", text)
    return f"{text}t{dtype}l{layout}"


@dataclasses.dataclass
class Layer:
    """One convolution with its arrays. `input` and `weight` lie in memory as the problem says."""

    name: str
    network: str
    text: str
    problem: library.Problem
    input: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None

    @property
    def mode(self):
        return library.PADDING_MODES[self.problem.padding_mode]

    @property
    def torch_mode(self):
        return TORCH_PADDING_MODES.get(self.mode, self.mode)

    @property
    def sides(self):
        """Padding as (top, bottom, left, right)."""
        return tuple(self.problem.padding)

    @property
    def symmetric_zeros(self):
        """Whether a convolution can pad by itself, with one number for each dimension."""
        top, bottom, left, right = self.sides
        return self.mode == "zeros" and top == bottom and left == right

    @property
    def flop(self):
        """Two for each multiply-add of the plain sum; taps in the padding and Winograd's savings are not taken off."""
        p = self.problem
        taps = p.in_channels // p.groups * p.kernel_height * p.kernel_width
        return 2 * p.batch * p.out_channels * p.out_height * p.out_width * taps

    @property
    def bytes(self):
        """What has to be read and written at least: input, weight and output once."""
        p = self.problem
        output = p.batch * p.out_channels * p.out_height * p.out_width
        return (self.input.numel() + self.weight.numel() + output) * self.input.element_size()


def gradient_of_output(layer):
    """Normal numbers in the place of the gradient of the layer's output, which lie as the output does."""
    p = layer.problem
    shape, generator = (p.batch, p.out_channels, p.out_height, p.out_width), torch.Generator().manual_seed(20260102)
    values = torch.empty_strided(shape, tuple(p.output_strides), dtype=layer.input.dtype)
    return values.copy_(torch.randn(shape, generator=generator, dtype=layer.input.dtype))


def make(name, network, text):
    """The layer with arrays of normal numbers, the same ones each time; the output's are of about that size, too."""
    p = library.parse(text)
    dtype = (torch.float32, torch.float64)[p.dtype]
    generator = torch.Generator().manual_seed(20260101)

    def random(shape, strides, scale):
        values = torch.empty_strided(shape, strides, dtype=dtype)
        return values.copy_(torch.randn(shape, generator=generator, dtype=dtype) * scale)

    taps = p.in_channels // p.groups * p.kernel_height * p.kernel_width
    return Layer(
        name=name,
        network=network,
        text=text,
        problem=p,
        input=random((p.batch, p.in_channels, p.in_height, p.in_width), tuple(p.input_strides), 1),
        weight=random(
            (p.out_channels, p.in_channels // p.groups, p.kernel_height, p.kernel_width), tuple(p.weight_strides), taps**-0.5
        ),
        bias=random((p.out_channels,), (1,), 1) if p.has_bias else None,
    )


def padded(layer, input):
    """`input` as a convolution without padding of its own needs it."""
    top, bottom, left, right = layer.sides
    return F.pad(input, (left, right, top, bottom), mode=layer.torch_mode)


def truth(layer):
    """The output in double precision, as torch computes it."""
    p = layer.problem
    bias = layer.bias.double() if layer.bias is not None else None
    input = padded(layer, layer.input.double().contiguous())
    return torch.conv2d(input, layer.weight.double().contiguous(), bias, tuple(p.stride), 0, tuple(p.dilation), p.groups)
