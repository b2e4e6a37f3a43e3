"""The installed tree serves a program of someone else's: with pkg-config, with CMake, shared and static, wherever it is moved."""

import os
import shutil
import subprocess

import pytest

PROGRAM = """
#include <fonio.h>
#include <stdio.h>
int main(void) { return printf("%s\\n", fonio_version()) < 0; }
"""

PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(someone LANGUAGES C)
find_package(fonio 0.1 REQUIRED)
add_executable(shared program.c)
target_link_libraries(shared PRIVATE fonio::fonio)
add_executable(static program.c)
target_link_libraries(static PRIVATE fonio::fonio_static)
"""


def run(*command, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def installed(library_path, tmp_path_factory):
    """An installed tree, moved after the installation."""
    folder = tmp_path_factory.mktemp("install")
    run("cmake", "--install", library_path.parent, "--prefix", folder / "before")
    return shutil.move(folder / "before", folder / "after")


@pytest.fixture
def version(library):
    from ctypes import c_char_p

    library.fonio_version.restype = c_char_p
    return library.fonio_version().decode() + "\n"


def pkg_config(installed, *words):
    (file,) = installed.rglob("fonio.pc")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(file.parent)}
    return run("pkg-config", *words, "fonio", env=environment)


@pytest.mark.parametrize("compiler", ["gcc", "g++ -x c++"])
def test_pkg_config(installed, version, tmp_path, compiler):
    (tmp_path / "program.c").write_text(PROGRAM)
    (shared,) = installed.rglob("libfonio.so")
    flags = pkg_config(installed, "--cflags", "--libs").split()
    run(*compiler.split(), "program.c", "-o", "program", *flags, f"-Wl,-rpath,{shared.parent}", cwd=tmp_path)
    assert run(tmp_path / "program") == version
    assert pkg_config(installed, "--modversion") == version


def test_static_library(installed, version, tmp_path):
    (tmp_path / "program.c").write_text(PROGRAM)
    (archive,) = installed.rglob("libfonio.a")
    run("gcc", "program.c", "-o", "program", f"-I{installed}/include", archive, "-lm", "-pthread", cwd=tmp_path)
    assert run(tmp_path / "program") == version
    assert "libfonio" not in run("ldd", tmp_path / "program")


def test_cmake_package(installed, version, tmp_path):
    (tmp_path / "program.c").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    run("cmake", "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={installed}", cwd=tmp_path)
    run("cmake", "--build", "build", cwd=tmp_path)
    assert run(tmp_path / "build" / "shared") == run(tmp_path / "build" / "static") == version


def test_as_a_part_of_another_project(root, version, tmp_path):
    """add_subdirectory builds the library alone, with the other project's own settings."""
    (tmp_path / "program.c").write_text(PROGRAM)
    project = PROJECT.replace("find_package(fonio 0.1 REQUIRED)", f"add_subdirectory({root} fonio)")
    (tmp_path / "CMakeLists.txt").write_text(project)
    run("cmake", "-S", ".", "-B", "build", "-DFONIO_ISAS=scalar", "-DCMAKE_C_FLAGS=-O0", "-DFONIO_IO=OFF", cwd=tmp_path)
    run("cmake", "--build", "build", "-j", "2", cwd=tmp_path)
    assert run(tmp_path / "build" / "shared") == version
