"""What the measurement ran on, and the yardsticks of that machine."""

import ctypes
import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess

from bench import library

PEAK = library.BUILD / "bench" / "libbench_peak.so"
ISAS = ("avx512", "avx2")  # the best first
PACKAGES = ("torch", "onnxruntime", "openvino", "ncnn", "numpy")


def read(path):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return None


def cpu_line(key):
    """A line of /proc/cpuinfo."""
    for line in (read("/proc/cpuinfo") or "").splitlines():
        if line.split("\t")[0].strip() == key:
            return line.split(":", 1)[1].strip()
    return None


def cache_bytes():
    """{"L1": bytes, ...} of the data caches that the first processor sees."""
    found = {}
    for index in sorted(pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if read(index / "type") in ("Data", "Unified"):
            size = read(index / "size")
            found["L" + read(index / "level")] = int(size.rstrip("KM")) * {"K": 1 << 10, "M": 1 << 20}[size[-1]]
    return found


def describe():
    """The machine, for the record."""
    return {
        "processor": cpu_line("model name") or platform.processor() or platform.machine(),
        "family_model_stepping": [cpu_line(key) for key in ("cpu family", "model", "stepping")],
        "flags": [f for f in (cpu_line("flags") or "").split() if f.startswith(("avx", "fma", "amx", "f16c"))],
        "cores": os.cpu_count(),
        "cores_allowed": sorted(os.sched_getaffinity(0)),
        "caches": cache_bytes(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": f"{platform.system()} {platform.release()}",
        "virtual": "hypervisor" in (cpu_line("flags") or "").split(),
    }


def versions():
    """Fonio and its commit, Python, and every peer's package that is installed."""
    found = {"fonio": library.lib.version().decode(), "fonio_isa": library.lib.isa().decode()}
    found["fonio_accuracy"] = library.ACCURACIES[library.lib.get_accuracy()]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=library.ROOT, capture_output=True, text=True
    )
    found["fonio_commit"] = commit.stdout.strip() or None
    found["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def moment():
    """When, and how busy the machine is."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"time": now.isoformat(timespec="seconds"), "load": round(os.getloadavg()[0], 2)}


class Yardstick:
    """The multiply-adds and the bandwidth that this machine is capable of: bench/peak.c."""

    def __init__(self, dtype, threads):
        self.library = ctypes.CDLL(str(PEAK))
        self.library.peak_flops.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_double]
        self.library.peak_bandwidth.argtypes = [ctypes.c_char_p, ctypes.c_bool, ctypes.c_int64, ctypes.c_double]
        self.library.peak_flops.restype = self.library.peak_bandwidth.restype = ctypes.c_double
        self.element_bytes, self.threads = {"f32": 4, "f64": 8}[dtype], threads
        self.isas = [isa for isa in ISAS if self.flops(isa, 0.001) > 0]

    def flops(self, isa, seconds=0.005):
        return self.library.peak_flops(isa.encode(), self.element_bytes, self.threads, seconds)

    def bandwidth(self, seconds=0.05):
        """{"L1": {"bytes", "read", "write"}, ..., "memory": ...} in bytes a second, of one thread."""
        caches = cache_bytes()
        if not caches or not self.isas:
            return {}
        # Half of each cache, so that what else lives there does not matter; far more than the last one, for memory.
        last = max(caches.values())
        areas = {level: min(size // 2, 8 << 20) for level, size in caches.items()} | {"memory": min(4 * last, 1 << 28)}
        isa = self.isas[0].encode()
        return {
            level: {"bytes": size}
            | {how: self.library.peak_bandwidth(isa, how == "write", size, seconds) for how in ("read", "write")}
            for level, size in areas.items()
        }
