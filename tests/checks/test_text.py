"""What every text file of the tree keeps to, and what the library's code never does."""

import re
import subprocess

# Calls that the library must not make: it neither ends the program nor writes to a stream of its own accord.
FORBIDDEN = re.compile(
    r"\b(abort|exit|_exit|_Exit|quick_exit|raise|kill"
    r"|printf|puts|putchar|fprintf|fputs|vprintf|vfprintf|perror)\s*\("
)

# Memory comes from base/memory.h, which the host may replace.
MEMORY = re.compile(r"\b(malloc|calloc|realloc|aligned_alloc|posix_memalign|strdup|strndup|asprintf|free)\s*\(")

# file: (calls it may make, why)
ALLOWED = {
    "src/base/error.c": ({"fprintf", "fputs"}, "the default handler of warnings writes them to stderr"),
    "src/base/log.c": ({"fprintf"}, "the default handler of the log, off unless asked for, writes to stderr"),
    "src/base/memory.c": ({"malloc", "aligned_alloc", "posix_memalign", "free"}, "the default allocator"),
    "src/tensor/print.c": ({"fputs", "fputc"}, "fonio_print writes to stdout"),
}


def tracked(root):
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True).stdout
    names = [name for name in listing.decode().split("\0") if name]
    return [name for name in names if (root / name).is_file() and b"\0" not in (root / name).read_bytes()]


def text_faults(name, data):
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return [f"{name}: not UTF-8"]
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if "\t" in line and not name.endswith(("Makefile", ".tsv")):
            found.append(f"{name}:{number}: a tab")
        if line.endswith((" ", "\t", "\r")):
            found.append(f"{name}:{number}: trailing blank")
        if re.search("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]", line):
            found.append(f"{name}:{number}: an invisible character")
    if text and not text.endswith("\n"):
        found.append(f"{name}: no newline at the end")
    if text.endswith("\n\n"):
        found.append(f"{name}: an empty line at the end")
    return found


def without_comments_and_strings(text):
    """The code alone, with its lines in place."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)


def call_faults(name, text):
    allowed = ALLOWED.get(name, (set(), ""))[0]
    found = []
    for number, line in enumerate(without_comments_and_strings(text).split("\n"), 1):
        # A printf attribute names a kind of format string: no call.
        line = re.sub(r"format\s*\(\s*printf", "", line)
        for pattern in (FORBIDDEN, MEMORY):
            found += [f"{name}:{number}: {call}" for call in pattern.findall(line) if call not in allowed]
    return found


def test_text_files_are_clean(root):
    found = []
    for name in tracked(root):
        found += text_faults(name, (root / name).read_bytes())
    assert found == []


def test_library_never_ends_the_program_nor_prints(root):
    found = []
    for name in tracked(root):
        if name.startswith("src/") and name.endswith((".c", ".h")):
            found += call_faults(name, (root / name).read_text())
    assert found == []


def test_check_of_text_can_fail():
    assert text_faults("a.c", b"int a;\t\n") == ["a.c:1: a tab", "a.c:1: trailing blank"]
    assert text_faults("a.c", b"int a;") == ["a.c: no newline at the end"]
    assert text_faults("a.c", b"\xff\n") == ["a.c: not UTF-8"]
    assert text_faults("a.c", "int \u200ba;\n\n".encode()) == ["a.c:1: an invisible character", "a.c: an empty line at the end"]
    assert text_faults("Makefile", b"a:\n\tb\n") == []


def test_check_of_calls_can_fail():
    assert call_faults("src/a.c", 'void f(void) {\n  printf("abort()");\n  x = malloc(1);\n}\n') == [
        "src/a.c:2: printf",
        "src/a.c:3: malloc",
    ]
    assert call_faults("src/a.c", "/* exit(1) */ int my_exit(int); // abort()\n") == []
    assert call_faults("src/a.c", "snprintf(text, 1, format); free_list(a);\n") == []
    assert call_faults("src/a.h", "void fail(const char *, ...) __attribute__((format(printf, 1, 2)));\n") == []
