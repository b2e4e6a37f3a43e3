"""The rooms of src/ and the one way through them: an #include never points back.

base < kernels < {tensor, conv} < autograd < {nn, optim}; tensor and conv never see each other. Each public header belongs to a room,
and a room sees the public headers of its own and of lower rooms. Public headers include public headers only, in the order in
which fonio.h reads them. io, cli, python, bench and examples see public headers only.
"""

import pathlib
import re

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

# What each room may see, besides itself.
BELOW = {
    "base": [],
    "kernels": ["base"],
    "tensor": ["base", "kernels"],
    "conv": ["base", "kernels"],
    "autograd": ["base", "kernels", "tensor", "conv"],
    "nn": ["base", "kernels", "tensor", "conv", "autograd"],
    "optim": ["base", "kernels", "tensor", "conv", "autograd"],
}

# The room that each public header belongs to, in the order in which fonio.h reads them.
HEADER_ROOM = {
    "fonio/base.h": "base",
    "fonio/dtype.h": "base",
    "fonio/activation.h": "base",
    "fonio/conv.h": "conv",
    "fonio/tensor.h": "tensor",
    "fonio/random.h": "tensor",
    "fonio/print.h": "tensor",
    "fonio/ops.h": "autograd",
    "fonio/autograd.h": "autograd",
    "fonio/nn.h": "nn",
    "fonio/optim.h": "optim",
    "fonio/io.h": "io",
    "fonio.h": "outside",
}

OUTSIDE = ["src/io", "cli", "python", "bench", "examples"]


def sources(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix in (".c", ".h"))


def includes(path):
    """(line, quoted, name) of each #include of the file, comments left out."""
    text = re.sub(r"/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match[0]), path.read_text(), flags=re.DOTALL)
    text = re.sub(r"//[^\n]*", "", text)
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start(2)) + 1, match[1] == '"', match[2]


def is_public(name):
    return name == "fonio.h" or name.startswith("fonio/")


def fault_in_room(room, quoted, name):
    if is_public(name):
        owner = HEADER_ROOM.get(name)
        if owner is None:
            return f"{name} is not in HEADER_ROOM of this check"
        if owner != room and owner not in BELOW[room]:
            return f"{room} must not see {name}, a header of {owner}"
    elif quoted:
        owner = name.split("/")[0] if "/" in name else None
        if owner not in BELOW:
            return f'"{name}" does not name its room'
        if owner != room and owner not in BELOW[room]:
            return f"{room} must not see {owner}"
    return None


def fault_outside(root, file, quoted, name):
    if is_public(name) or not quoted:
        return None
    home = root / file.relative_to(root).parts[0] if file.relative_to(root).parts[0] != "src" else root / "src" / "io"
    if any((folder / name).exists() for folder in (file.parent, home)) and ".." not in name:
        return None
    return f'"{name}": only public headers, and files of its own folder'


def fault_in_header(root, file, quoted, name):
    if is_public(name):
        own = file.relative_to(root / "include").as_posix()
        if own == "fonio.h":
            return None
        order = list(HEADER_ROOM)
        if name not in order or own not in order:
            return f"{name} or {own} is not in HEADER_ROOM of this check"
        room, owner = HEADER_ROOM[own], HEADER_ROOM[name]
        if owner != room and room in BELOW and owner not in BELOW[room]:
            return f"a header of {room} must not see {name}, a header of {owner}"
        if order.index(name) > order.index(own):
            return f"{name} is read after {own}"
        return None
    return f'"{name}": a public header sees public headers only' if quoted else None


def faults(root):
    """Every arrow of the tree that runs back, as 'file:line: what'."""
    found = []

    def look(folder, rule):
        for file in sources(root / folder):
            for line, quoted, name in includes(file):
                fault = rule(file, quoted, name)
                if fault:
                    found.append(f"{file.relative_to(root)}:{line}: {fault}")

    for room in BELOW:
        look(f"src/{room}", lambda file, quoted, name: fault_in_room(room, quoted, name))
    for folder in OUTSIDE:
        look(folder, lambda file, quoted, name: fault_outside(root, file, quoted, name))
    look("include", lambda file, quoted, name: fault_in_header(root, file, quoted, name))
    for file in sources(root / "src"):
        parts = file.relative_to(root / "src").parts
        if len(parts) < 2 or parts[0] not in [*BELOW, "io"]:
            found.append(f"{file.relative_to(root)}: in no room")
    return found


def test_no_arrow_runs_back(root):
    assert faults(root) == []


def test_the_order_is_that_of_fonio_h(root):
    read = [name for _, _, name in includes(root / "include/fonio.h") if is_public(name)]
    assert read == [name for name in HEADER_ROOM if name in read]


BAD = {
    "src/base/a.c": '#include "tensor/tensor.h"\n',
    "src/base/b.c": "#include <fonio/conv.h>\n",
    "src/kernels/c.c": '#include "conv/plan.h"\n',
    "src/tensor/d.c": '#include "base/memory.h"\n#  include "conv/plan.h"\n',
    "src/conv/e.h": '#include "fonio/tensor.h"\n',
    "src/autograd/f.c": '#include "nn/module.h"\n',
    "src/nn/g.c": '#include "module.h"\n',
    "src/nn/h.c": '#include "fonio/unknown.h"\n',
    "src/nn/i.c": "#include <fonio.h>\n",
    "src/stray.c": "\n",
    "src/io/j.c": '#include "base/memory.h"\n',
    "cli/k.c": '#include "../src/base/memory.h"\n',
    "examples/l.c": '#include "tensor/tensor.h"\n',
    "bench/m.c": '#include "conv/plan.h"\n',
    "include/fonio/base.h": '#include "base/memory.h"\n',
    "include/fonio/conv.h": "#include <fonio/tensor.h>\n",
    "include/fonio/ops.h": "#include <fonio/autograd.h>\n",
}

GOOD = {
    "src/base/error.c": '#include "base/error.h"\n#include <stdio.h>\n#include "fonio/base.h"\n',
    "src/conv/plan.c": '#include "kernels/kernels.h"\n/*\n#include "nn/module.h"\n*/\n// #include "nn/module.h"\n',
    "src/autograd/conv2d.c": '#include "tensor/tensor.h"\n#include "conv/plan.h"\n#include "fonio/ops.h"\n',
    "src/nn/conv2d.c": '#include "fonio/nn.h"\n#include "autograd/node.h"\n',
    "src/io/png.c": '#include <fonio/io.h>\n#include <png.h>\n#include "picture.h"\n',
    "src/io/picture.h": "\n",
    "examples/short.c": "#include <fonio.h>\n#include <stdio.h>\n",
    "include/fonio.h": "#include <fonio/base.h>\n",
    "include/fonio/ops.h": "#include <fonio/conv.h>\n#include <fonio/tensor.h>\n",
}


def write(root: pathlib.Path, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_check_finds_each_arrow_that_runs_back(tmp_path):
    write(tmp_path, BAD)
    found = {fault.split(":")[0] for fault in faults(tmp_path)}
    assert found == set(BAD)


def test_check_tells_the_line(tmp_path):
    write(tmp_path, {"src/tensor/d.c": BAD["src/tensor/d.c"]})
    assert faults(tmp_path) == ["src/tensor/d.c:2: tensor must not see conv"]


def test_check_passes_a_good_tree(tmp_path):
    write(tmp_path, GOOD)
    assert faults(tmp_path) == []
