"""The two programs of README.md print the same, and every document's links lead somewhere."""

import pathlib
import re
import subprocess
import sys

import pytest


def block(text, language):
    """The first block of code in that language."""
    return re.search(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[1]


def test_both_programs_print_the_same(root, library_path, tmp_path):
    text = (root / "README.md").read_text()
    source, program = tmp_path / "net.c", tmp_path / "net"
    source.write_text(block(text, "c"))
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run(
        ["gcc", "-std=c17", *warnings, f"-I{root}/include", source, "-o", program, library_path, "-Wl,-rpath", library_path.parent],
        check=True,
    )
    c = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    python = subprocess.run([sys.executable, "-c", block(text, "python")], check=True, capture_output=True, text=True).stdout
    assert c == python


ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_named_files_are_there(root, name):
    document = root / name
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (document.parent / link).exists()] == []
    named = re.findall(r"`((?:src|include|examples|tests|docs|scripts|bench)/[\w./-]+)`", text)
    assert [path for path in named if not (root / path).exists()] == []


def test_documents_that_headers_name_are_there(root):
    text = "".join(path.read_text() for path in (root / "include").rglob("*.h"))
    assert [name for name in re.findall(r"docs/[\w-]+\.md", text) if not (root / name).exists()] == []
