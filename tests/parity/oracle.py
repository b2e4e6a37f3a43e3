"""Convolution in long doubles with numpy, from the definition: an index map for the padding and a sum over the taps."""

import numpy


def padded_indices(size, before, after, mode):
    """For each row (or column) of the padded image the row that it shows; -1 for a zero."""
    indices = numpy.arange(size)
    if mode == "zeros":
        return numpy.pad(indices, (before, after), constant_values=-1)
    return numpy.pad(
        indices, (before, after), mode={"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    )


class Oracle:
    """One convolution of `input` (N, C, H, W) and `weight`; `sides` is (top, bottom, left, right)."""

    def __init__(self, input, weight, stride, sides, dilation, groups, mode):
        self.input, self.weight = input.astype(numpy.longdouble), weight.astype(numpy.longdouble)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        height, width = input.shape[2:]
        self.rows = padded_indices(height, *sides[:2], mode)
        self.columns = padded_indices(width, *sides[2:], mode)
        self.padded = self._pad(self.input)
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:])]
        self.out = [(size - r) // s + 1 for size, r, s in zip(self.padded.shape[2:], reach, stride)]

    def _pad(self, image):
        """The padded image. The -1 of a zero picks the row and the column of zeros that are put at the end."""
        framed = numpy.pad(image, ((0, 0), (0, 0), (0, 1), (0, 1)))
        return framed[:, :, self.rows][:, :, :, self.columns]

    def _taps(self):
        """Each tap of the kernel with the part of the padded image that it meets."""
        for i in range(self.weight.shape[2]):
            for j in range(self.weight.shape[3]):
                starts = (i * self.dilation[0], j * self.dilation[1])
                yield i, j, (..., *(slice(a, a + (o - 1) * s + 1, s) for a, o, s in zip(starts, self.out, self.stride)))

    def _split(self, image):
        """(N, channels, H, W) as (N, groups, channels of the group, H, W)."""
        return image.reshape(image.shape[0], self.groups, -1, *image.shape[2:])

    def _weights(self):
        return self.weight.reshape(self.groups, -1, *self.weight.shape[1:])

    def output(self, bias=None):
        weights, parts = self._weights(), self._split(self.padded)
        result = sum(numpy.einsum("ngchw,gkc->ngkhw", parts[where], weights[..., i, j]) for i, j, where in self._taps())
        result = result.reshape(self.input.shape[0], self.weight.shape[0], *self.out)
        return result if bias is None else result + bias.astype(numpy.longdouble).reshape(1, -1, 1, 1)

    def input_gradient(self, grad_output):
        weights, above = self._weights(), self._split(grad_output.astype(numpy.longdouble))
        padded = numpy.zeros_like(self._split(self.padded))
        for i, j, where in self._taps():
            padded[where] += numpy.einsum("ngkhw,gkc->ngchw", above, weights[..., i, j])
        framed = numpy.zeros([*self.input.shape[:2], *(size + 1 for size in self.input.shape[2:])], numpy.longdouble)
        numpy.add.at(framed, (..., *numpy.ix_(self.rows, self.columns)), padded.reshape(self.padded.shape))
        return framed[:, :, :-1, :-1]

    def weight_gradient(self, grad_output):
        result, above = numpy.zeros_like(self._weights()), self._split(grad_output.astype(numpy.longdouble))
        for i, j, where in self._taps():
            result[..., i, j] = numpy.einsum("ngkhw,ngchw->gkc", above, self._split(self.padded)[where])
        return result.reshape(self.weight.shape)
