"""What libfonio.so shows to the world: its symbols, its dependencies, its size."""

import re
import shutil
import subprocess

import pytest

SMALL = 1_000_000  # bytes, stripped


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def exported(library_path):
    """(name, nm's letter) of each symbol that a program can link with."""
    lines = run("nm", "--dynamic", "--defined-only", "--format=posix", library_path).splitlines()
    return sorted(tuple(line.split()[:2]) for line in lines)


def test_exports_are_the_listed_ones(root, library_path):
    listed = (root / "tests/checks/symbols.txt").read_text().split()
    found = [name for name, _ in exported(library_path)]
    added, gone = sorted(set(found) - set(listed)), sorted(set(listed) - set(found))
    assert not added and not gone, f"exported but not listed: {added}; listed but not exported: {gone} (make symbols)"


def test_exports_are_functions_of_fonio(library_path):
    assert [(name, kind) for name, kind in exported(library_path) if not name.startswith("fonio_") or kind != "T"] == []


def test_declared_functions_are_exported(root, library_path):
    """Every FONIO_API and FONIO_NEW of the headers (but io's) has its code."""
    declared = set()
    for header in (root / "include").rglob("*.h"):
        if header.name != "io.h":
            declared |= set(re.findall(r"^FONIO_(?:API|NEW)\b[^;(]*?\b(fonio_\w+)\(", header.read_text(), re.MULTILINE))
    assert declared == {name for name, _ in exported(library_path)}


def test_nothing_runs_on_load(library_path):
    """No object of ours has code for load or unload. (What gcc's start files and its cpu detection bring is not ours.)"""
    archive = library_path.with_suffix(".a")
    sections = run("readelf", "--sections", "--wide", archive)
    assert ".text" in sections
    assert re.findall(r" \.(?:preinit_array|init_array|fini_array|ctors|dtors)\S*", sections) == []


def test_needs_libc_and_libm_only(library_path):
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "--dynamic", library_path))
    allowed = r"libc\.so\.6|libm\.so\.6|ld-linux.*"
    assert [name for name in needed if not re.fullmatch(allowed, name)] == []


def test_cannot_run_its_stack_nor_patch_its_tables(library_path):
    segments = run("readelf", "--segments", "--dynamic", "--wide", library_path)
    assert re.search(r"GNU_STACK .* RW ", segments)
    assert "GNU_RELRO" in segments
    assert "BIND_NOW" in segments
    assert "TEXTREL" not in segments


def test_is_small(library_path, tmp_path):
    if b".debug_info" in library_path.read_bytes():
        pytest.skip("a debug build")
    copy = shutil.copy(library_path, tmp_path / "libfonio.so")
    run("strip", copy)
    assert copy.stat().st_size < SMALL
