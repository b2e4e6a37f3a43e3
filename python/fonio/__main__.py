"""python -m fonio: what this build is, and how it would compute a problem."""

import argparse
import json
import sys

import fonio
from fonio._config import configuration


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 1 for a problem string that is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m fonio", description="Prints the configuration of Fonio, or how it would compute a problem."
    )
    parser.add_argument("problem", nargs="?", help="a problem string, such as n1c64h56w56k64r3s3p1: explains its plan")
    parser.add_argument("--json", action="store_true", help="the configuration as JSON")
    parser.add_argument("--version", action="version", version=f"fonio {fonio.__version__}")
    given = parser.parse_args(arguments)
    if given.problem is not None:
        try:
            print(fonio.explain(given.problem), end="")
        except (ValueError, RuntimeError, NotImplementedError) as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
    elif given.json:
        print(json.dumps(configuration()))
    else:
        fonio.show_config()
    return 0


if __name__ == "__main__":
    sys.exit(main())
