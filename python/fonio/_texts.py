"""Texts of failures that are written in Python because they need no speed."""

_SIGNATURES = {
    "conv2d": (
        '(Tensor input, Tensor weight, Tensor bias = None, tuple of ints stride = 1, tuple of ints padding = 0, '
        "tuple of ints dilation = 1, int groups = 1)",
        '(Tensor input, Tensor weight, Tensor bias = None, tuple of ints stride = 1, str padding = "valid", '
        "tuple of ints dilation = 1, int groups = 1)",
    ),
    "pow": (
        "(Tensor input, Tensor exponent, *, Tensor out = None)",
        "(Number self, Tensor exponent, *, Tensor out = None)",
        "(Tensor input, Number exponent, *, Tensor out = None)",
    ),
    "conv2d_input": (
        "(tuple of ints input_size, Tensor weight, Tensor grad_output, tuple of ints stride = 1, "
        "tuple of ints padding = 0, tuple of ints dilation = 1, int groups = 1)",
    ),
    "conv2d_weight": (
        "(Tensor input, tuple of ints weight_size, Tensor grad_output, tuple of ints stride = 1, "
        "tuple of ints padding = 0, tuple of ints dilation = 1, int groups = 1)",
    ),
    "conv2d_backward": (
        "(Tensor input, Tensor weight, Tensor grad_output, tuple of ints stride = 1, tuple of ints padding = 0, "
        "tuple of ints dilation = 1, int groups = 1, str padding_mode = \"zeros\", tuple of bools mask = None)",
    ),
}


def combination(function, given):
    """What torch's parser says to arguments whose types fit no signature. `given` is what was given, by name; arguments
    that come in order are named by their type alone, as torch does, though it cannot be told whether they came by name."""
    names = list(_NAMES[function])
    in_order = next((i for i, name in enumerate(names) if name not in given), len(names))
    words = [type(given[name]).__name__ for name in names[:in_order]]
    words += [f"{name}={type(value).__name__}" for name, value in given.items() if name not in names[:in_order]]
    lines = "".join(f"\n * {signature}" for signature in _SIGNATURES[function])
    return (
        f"{function}() received an invalid combination of arguments - got ({', '.join(words)}), but expected one of:{lines}\n"
    )


_NAMES = {
    function: [part.split(" = ")[0].split(" ")[-1] for part in signatures[0][1:-1].split(", ")]
    for function, signatures in _SIGNATURES.items()
}
