"""The package as it is installed: what it brings in, how large it is, its stubs, its documentation, its command."""

import importlib.metadata
import inspect
import json
import pathlib
import platform
import re
import subprocess
import sys
import tarfile
import zipfile

import numpy
import pytest
import torch

import fonio
import fonio.torch

FOLDER = pathlib.Path(fonio.__file__).parent


def run(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)


def python(program):
    result = run(sys.executable, "-c", program)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_is_the_installed_one(root):
    assert root not in FOLDER.parents or ".venv" in FOLDER.parts


def test_import_brings_no_other_library():
    loaded = python("import fonio, sys; print('\\n'.join(sys.modules))").split("\n")
    assert [name for name in ("numpy", "torch", "jax") if name in loaded] == []


def test_parts_are_there_when_asked_for():
    shown = python("import fonio; print(fonio.nn.Conv2d.__name__, fonio.autograd.grad.__name__, hasattr(fonio, 'foo'))")
    assert shown == "Conv2d grad False\n"


def test_torch_is_not_imported_for_arrays_of_numpy():
    program = "fonio.conv2d(numpy.ones((1, 1, 3, 3)), numpy.ones((1, 1, 3, 3))); print('torch' in sys.modules)"
    assert python("import fonio, numpy, sys; " + program) == "False\n"


def test_it_is_small():
    files = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < 3_000_000


def test_one_binary_for_every_python():
    (binary,) = FOLDER.glob("_core*.so")
    assert binary.name == "_core.abi3.so"
    symbols = run("nm", "--dynamic", "--defined-only", "--format=posix", binary, check=True).stdout.split("\n")
    assert [line.split()[0] for line in symbols if line] == ["PyInit__core"]
    needed = run("readelf", "--dynamic", binary, check=True).stdout
    libraries = [line.split("[")[1].rstrip("]") for line in needed.split("\n") if "(NEEDED)" in line]
    assert set(libraries) <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def test_the_wheel_runs_on_every_linux_of_its_age(tmp_path):
    """auditwheel, over what was installed, packed again: no library and no symbol that manylinux does not allow."""
    distribution = importlib.metadata.distribution("fonio")
    architecture = platform.machine()
    wheel = tmp_path / f"fonio-{distribution.version}-cp311-abi3-linux_{architecture}.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        files = [path for path in distribution.files if path.suffix != ".pyc" and path.name != "RECORD"]
        for path in files:
            packed.write(distribution.locate_file(path), path)
        record = "".join(f"{path},,\n" for path in files)
        packed.writestr(f"fonio-{distribution.version}.dist-info/RECORD", record)
    shown = " ".join(run(sys.executable, "-m", "auditwheel", "show", wheel, check=True).stdout.split())
    found = re.search(rf'consistent with the following platform tag: "manylinux_2_(\d+)_{architecture}"', shown)
    assert found and int(found[1]) <= 36, shown


def test_version(root):
    header = (root / "include/fonio/base.h").read_text()
    numbers = [line.split()[2] for line in header.split("\n") if line.startswith("#define FONIO_VERSION_")]
    assert fonio.__version__ == ".".join(numbers)


def test_stubs_are_true(tmp_path):
    """Against the binary, and the types that are written in the Python files. NumPy's and torch's own types would take
    long to read."""
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\n[mypy-numpy.*]\nfollow_imports = skip\n")
    names = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    modules = [f"fonio.{name}" for name in ("_core", "nn", *names)]
    command = ["-m", "mypy.stubtest", *modules, "--ignore-disjoint-bases", "--mypy-config-file", config]
    result = run(sys.executable, *command, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert (FOLDER / "py.typed").exists()


def test_everything_is_documented():
    modules = [fonio, fonio.autograd, fonio.nn, fonio.nn.functional, fonio.nn.init, fonio.optim, fonio.torch]
    public = [value for module in modules for name, value in vars(module).items() if callable(value) and name[0] != "_"]
    classes = [value for value in public if inspect.isclass(value) and value.__module__.startswith("fonio")]
    public += [value for kind in classes for name, value in vars(kind).items() if callable(value) and name[0] != "_"]
    assert [value for value in modules + public if not (value.__doc__ or "").strip()] == []
    assert str(inspect.signature(fonio.conv2d)).endswith("padding_mode='zeros', activation=None, out=None)")


def test_settings():
    before = fonio.get_num_threads()
    fonio.set_num_threads(3)
    assert fonio.get_num_threads() == 3
    with pytest.raises(RuntimeError, match="set_num_threads expects a positive integer"):
        fonio.set_num_threads(0)
    with pytest.raises(TypeError):
        fonio.set_num_threads(1.5)
    assert fonio.get_num_threads() == 3
    fonio.set_num_threads(before)
    for accuracy in ("strict", "fast", "default"):
        fonio.set_accuracy(accuracy)
        assert fonio.get_accuracy() == accuracy
    with pytest.raises(ValueError, match="accuracy must be"):
        fonio.set_accuracy("best")
    fonio.set_accuracy(None)


def test_command():
    shown = run(sys.executable, "-m", "fonio", check=True).stdout
    assert f"version:         {fonio.__version__}\n" in shown and "instruction set: " in shown
    config = json.loads(run(sys.executable, "-m", "fonio", "--json", check=True).stdout)
    assert config["threads"] >= 1 and "packed" in config["algorithms"]
    assert "usage: python -m fonio" in run(sys.executable, "-m", "fonio", "--help", check=True).stdout
    assert run(sys.executable, "-m", "fonio", "--version", check=True).stdout == f"fonio {fonio.__version__}\n"
    explained = run(sys.executable, "-m", "fonio", "n1c8h9w9k8r3s3", check=True).stdout
    assert explained == fonio.explain("n1c8h9w9k8r3s3") and explained.startswith("n1c8h9w9k8r3s3: forward")
    wrong = run(sys.executable, "-m", "fonio", "n1c8q")
    assert wrong.returncode == 1 and wrong.stdout == "" and wrong.stderr.startswith("python -m fonio: ")


def test_explain():
    input, weight = numpy.ones((1, 8, 9, 9), "f"), numpy.ones((8, 8, 3, 3), "f")
    text = fonio.explain(input, weight, stride=2)
    assert text.startswith("n1c8h9w9k8r3s3u2b0: forward") and "<- taken" in text
    with pytest.raises(ValueError):
        fonio.explain("n1c8q")
    with pytest.raises(RuntimeError, match="Given groups=3"):
        fonio.explain(input, weight, groups=3)


def test_explain_a_layer():
    arguments = dict(stride=2, padding=(1, 0), padding_mode="reflect", bias=False)
    wanted = fonio.explain(fonio.nn.Conv2d(8, 6, 3, **arguments), (2, 8, 9, 9))
    assert wanted.startswith("n2c8h9w9k6r3s3") and "<- taken" in wanted
    for kind in (torch.nn.Conv2d, fonio.torch.Conv2d):
        assert fonio.explain(kind(8, 6, 3, **arguments), shape=(2, 8, 9, 9)) == wanted
    assert fonio.explain(torch.nn.Conv2d(8, 6, 3, dtype=torch.float64), (8, 9, 9)).startswith("c8h9w9k6r3s3tf64")
    with pytest.raises(RuntimeError, match="expected input"):
        fonio.explain(fonio.nn.Conv2d(8, 6, 3), (2, 7, 9, 9))
    with pytest.raises(TypeError, match="shape"):
        fonio.explain(fonio.nn.Conv2d(8, 6, 3))
    with pytest.raises(TypeError, match="a ConvTranspose2d is not computed by Fonio"):
        fonio.explain(torch.nn.ConvTranspose2d(8, 8, 3), (2, 8, 9, 9))


def test_the_source_package_has_what_it_is_built_of(root, tmp_path):
    program = f"import scikit_build_core.build as build; print(build.build_sdist({str(tmp_path)!r}))"
    name = run(sys.executable, "-c", program, cwd=root, check=True).stdout.split()[-1]
    with tarfile.open(tmp_path / name) as packed:
        names = {pathlib.PurePath(one).parts[1] for one in packed.getnames()}
    assert {"CMakeLists.txt", "LICENSE", "README.md", "cmake", "include", "pyproject.toml", "python", "src"} <= names
    assert not any(one.startswith(("build", "tests", "examples", ".")) for one in names)
