"""What a run needs beside its arrays and packed weights: bounded by the channels, whatever the batch, height and width."""

import csv
import ctypes
import re

import pytest

import fonio_c


def suite(root):
    with open(root / "bench" / "layers.csv", newline="") as file:
        return list(csv.DictReader(file))


def parse(text):
    problem = fonio_c.Problem()
    fonio_c.check(fonio_c.lib.conv_problem_parse(ctypes.byref(problem), text.encode()))
    return problem


def enlarged(text, batch, factor):
    """The problem with another batch, and so many times the height and the width."""
    text = re.sub(r"([hw])(\d+)", lambda match: match[1] + str(factor * int(match[2])), text)
    return re.sub(r"^n\d+", f"n{batch}", text)


def workspace(text, direction, threads):
    plan = fonio_c.Plan(parse(text), direction)
    return fonio_c.lib.conv_plan_workspace_bytes(plan.handle, threads)


def most_bytes(text):
    """What a thread may need."""
    problem = parse(text)
    return 2**20 + 8 * 2**10 * (problem.in_channels + problem.out_channels)


@pytest.mark.parametrize("direction", [fonio_c.FORWARD, fonio_c.INPUT_GRADIENT, fonio_c.WEIGHT_GRADIENT])
def test_it_grows_with_the_channels_only(root, direction):
    beyond = []
    for layer in suite(root):
        for layout in ("nchw", "nhwc"):
            for dtype in ("f32", "f64"):
                for batch, factor in ((1, 1), (3, 4), (1, 8)):
                    text = enlarged(layer["problem"], batch, factor) + f"t{dtype}l{layout}"
                    most, needed = most_bytes(text), workspace(text, direction, 1)
                    if needed > most or workspace(text, direction, 3) > 3 * most:
                        beyond.append(f"{layer['name']}: {text} needs {needed} bytes, more than {most}")
    assert not beyond, "\n".join(beyond)


def test_small_weight_gradients_too():
    """Winograd's has sums whatever the channels; a stride makes many phases of few pixels."""
    for text in (
        "n8c17h64w64k96r4s4u2",
        "n2c17h10w66k69r4s4u2p1lnhwc",
        "n1c16h120w120k64r8s8u4",
        "n1c3h400w400k8r20s20u10",
        "n4c5h40w40k130r5s5",
        "n4c130h40w40k5r3s3p1tf64",
        "n1c8h64w20000k8r7s7p3g8",
    ):
        for direction in (fonio_c.FORWARD, fonio_c.INPUT_GRADIENT, fonio_c.WEIGHT_GRADIENT):
            assert workspace(text, direction, 1) <= most_bytes(text), (text, direction)


def test_kernels_in_many_parts_too():
    """Those of Winograd's tiles, each of which reads all input channels anew."""
    for text in (
        "n1c288h174w15k1r9s9u3,3p6,0,8,4tf64",
        "n2c701h175w137k532r9s9u3p1,6,8,1tf64",
        "n1c41h208w20k1179r3s7p0,0,5,1lnhwc",
        "n1c1408h98w77k1r8s12u3p6,1,9,10lnhwc",
        "n1c9h167w171k1363r6s6p2,5,0,1tf64lnhwc",
    ):
        for direction in (fonio_c.FORWARD, fonio_c.INPUT_GRADIENT):
            assert workspace(text, direction, 1) <= most_bytes(text), (text, direction)


def test_far_apart_and_very_wide_too():
    """What would make an algorithm ask for more than a thread may have: another one is taken."""
    for text in (
        "n1c4h2w65000k4r4s11p1,1,5,1g4tf64",
        "n1c4h203w1032k4r142s142u2p1,16,3,1g4tf64",
        "n5c44h2w65000k44r4s4u5,13p144,1,9,133d32g44lnhwc",
        "n7c2h1w65000k2r2s2p5,0,1,2g2mcircular",
        "n1c9h2405w1887k18r4s4u16,1p2,0,31,3d174,1g9",
        "n1c3h31w8k202r4s4p3,94,1,5mcircularlnhwc",
        "n2c1h950w11k50r62s1p1,24,0,3mreflectlnhwc",
        "n1c1h3057w83k109r9s7p1,3,1,80mcircularlnhwc",
    ):
        for direction in (fonio_c.FORWARD, fonio_c.INPUT_GRADIENT, fonio_c.WEIGHT_GRADIENT):
            assert workspace(text, direction, 1) <= most_bytes(text), (text, direction)


@pytest.mark.parametrize("direction", [fonio_c.FORWARD, fonio_c.INPUT_GRADIENT, fonio_c.WEIGHT_GRADIENT])
def test_what_asks_for_more_is_refused_by_name_too(direction):
    text = "n5c44h2w65000k44r4s4u5,13p144,1,9,133d32g44lnhwc"
    taken, names = [], iter(range(100))
    while name := fonio_c.lib.conv_algorithm_name(next(names)):
        try:
            taken.append(fonio_c.Plan(parse(text), direction, algorithm=name.decode()))
        except ValueError as error:
            assert "cannot do this problem" in str(error)
    needed = [fonio_c.lib.conv_plan_workspace_bytes(plan.handle, 1) for plan in taken]
    assert needed and max(needed) <= most_bytes(text)
