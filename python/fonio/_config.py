"""What this build is, and how it is set."""

from fonio import _core


def configuration() -> dict[str, object]:
    """Version, instruction set, threads, accuracy and algorithms, by name."""
    config = _core.config()
    return {
        "version": _core.version,
        "instruction set": config["isa"],
        "threads": _core.get_num_threads(),
        "accuracy": _core.get_accuracy(),
        "algorithms": config["algorithms"],
    }


def show_config() -> None:
    """Prints what this build is and how it is set: its version, the instruction set in use (FONIO_ISA may lower it), the
    number of threads, the accuracy, and the algorithms."""
    for name, value in configuration().items():
        print(f"{name + ':':17}{', '.join(value) if isinstance(value, list) else value}")
