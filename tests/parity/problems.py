"""Random convolutions for the tests: arguments, tensors in every kind of memory layout, and what PyTorch makes of
them."""

import dataclasses

import torch
import torch.nn.functional as F

# ---- Memory layouts ----


def contiguous(rng, shape):
    return torch.empty(shape)


def channels_last(rng, shape):
    if len(shape) != 4:
        return torch.empty(shape[1:] + shape[:1]).permute(-1, *range(len(shape) - 1)) if shape else torch.empty(shape)
    return torch.empty(shape, memory_format=torch.channels_last)


def permuted(rng, shape):
    order = rng.sample(range(len(shape)), len(shape))
    return torch.empty([shape[dim] for dim in order]).permute([order.index(dim) for dim in range(len(shape))])


def sliced(rng, shape):
    """Every first or second element, of a larger tensor, from some offset."""
    step = [rng.choice([1, 1, 2]) for _ in shape]
    start = [rng.choice([0, 0, 1, 2]) for _ in shape]
    whole = rng.choice([contiguous, channels_last])(
        rng, [a + b * c + rng.randrange(2) for a, b, c in zip(start, shape, step)]
    )
    return whole[tuple(slice(a, a + b * c, c) for a, b, c in zip(start, shape, step))]


def expanded(rng, shape):
    """One element for many, along some dimensions: strides of 0."""
    repeated = [rng.random() < 0.4 for _ in shape]
    return rng.choice([contiguous, channels_last])(rng, [1 if r else s for r, s in zip(repeated, shape)]).expand(shape)


LAYOUTS = [contiguous] * 4 + [channels_last] * 3 + [permuted, sliced, sliced, expanded]


def random_tensor(rng, generator, shape, dtype, layouts=LAYOUTS):
    """A tensor of normal numbers in a random layout."""
    like = rng.choice(layouts)(rng, list(shape))
    assert like.shape == torch.Size(shape)
    elements = 1 + sum((size - 1) * stride for size, stride in zip(shape, like.stride())) if 0 not in shape else 0
    offset = rng.choice([0, 0, 1, 5])
    memory = torch.randn(offset + max(elements, 1), generator=generator, dtype=dtype)
    return memory.as_strided(shape, like.stride(), offset)


# ---- Cases ----


@dataclasses.dataclass
class Case:
    """The arguments of one convolution. `input`, `weight` and `bias` are torch tensors; `arguments` are those of
    fonio_c.conv2d."""

    input: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    arguments: dict


def pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def one_or_pair(rng, draw):
    """One number or two."""
    return draw() if rng.random() < 0.6 else (draw(), draw())


def random_padding(rng, mode, stride, kernel):
    if pair(stride) == (1, 1) and rng.random() < 0.12:
        return "same"
    if rng.random() < 0.06:
        return "valid"
    return one_or_pair(rng, lambda: rng.choice([0, 0, 1, 1, 2, 3, 5] if mode == "zeros" else [0, 1, 1, 2, 3]))


def sides_of(padding, kernel, dilation):
    """PyTorch's padding as (top, bottom), (left, right)."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        return tuple((d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2) for k, d in zip(kernel, dilation))
    return tuple((p, p) for p in pair(padding))


def random_image_side(rng, mode, sides, kernel, dilation, largest):
    """A height or width that this kernel fits in, and that has what the padding mode reads."""
    least = max(1, dilation * (kernel - 1) + 1 - sum(sides))
    if mode == "reflect":
        least = max(least, max(sides) + 1)
    if mode == "circular":
        least = max(least, max(sides))
    return least + rng.choice([0, 0, 1, 1, 2, 3, 4, rng.randint(0, largest)])


def random_case(rng):
    """A convolution that PyTorch computes: all arguments, all layouts; mostly small."""
    large = rng.random() < 0.02
    mode = rng.choice(["zeros"] * 6 + ["reflect", "replicate", "circular"])
    groups = rng.choice([1, 1, 1, 1, 2, 3, 4])
    group_in = rng.choice([1, 2, 3, 4, 5, rng.randint(1, 40 if large else 9)])
    group_out = rng.choice([1, 1, 2, 3, 4, rng.randint(1, 40 if large else 9)])
    if mode in ("zeros", "circular") and rng.random() < 0.01:
        group_in = 0
    kernel = [rng.choice([1, 1, 2, 3, 3, 3, 4, 5, rng.randint(1, 7)]) for _ in range(2)]
    if rng.random() < 0.5:
        kernel[1] = kernel[0]
    stride = one_or_pair(rng, lambda: rng.choice([1, 1, 1, 2, 2, 3]))
    dilation = one_or_pair(rng, lambda: rng.choice([1, 1, 1, 1, 2, 3]))
    padding = random_padding(rng, mode, stride, kernel)
    sides = sides_of(padding, kernel, pair(dilation))
    image = [random_image_side(rng, mode, *each, 40 if large else 12) for each in zip(sides, kernel, pair(dilation))]
    batch = rng.choice([None, 1, 1, 1, 2, 2, 3, rng.randint(0, 17) if large else 0])
    return build_case(rng, batch, groups, group_in, group_out, kernel, image, stride, padding, dilation, mode)


def build_case(rng, batch, groups, group_in, group_out, kernel, image, stride, padding, dilation, mode):
    """The tensors of a case, in random layouts."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    dtype = rng.choice([torch.float32, torch.float64])
    shape = [groups * group_in, *image]
    return Case(
        input=random_tensor(rng, generator, shape if batch is None else [batch, *shape], dtype),
        weight=random_tensor(rng, generator, [groups * group_out, group_in, *kernel], dtype),
        bias=random_tensor(rng, generator, [groups * group_out], dtype) if rng.random() < 0.7 else None,
        arguments=dict(stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=mode),
    )


# ---- What PyTorch computes ----


def torch_conv2d(input, weight, bias, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
    """F.conv2d, or with a padding mode nn.Conv2d's forward, which is these two calls."""
    if padding_mode == "zeros":
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    padded = torch_pad(input, weight.shape[2:], padding, dilation, padding_mode)
    return F.conv2d(padded, weight, bias, stride, 0, dilation, groups)


def torch_pad(input, kernel, padding, dilation, padding_mode):
    """What such a convolution makes of its input first."""
    (top, bottom), (left, right) = sides_of(padding, kernel, pair(dilation))
    return F.pad(input, [left, right, top, bottom], mode=padding_mode.replace("zeros", "constant"))
