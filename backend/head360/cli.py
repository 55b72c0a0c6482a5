"""``head360``: collects the commands, sets up logging, turns errors into a sentence and a code."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

import head360
from head360.commands import emit_json
from head360.errors import BadInput, Cancelled, Head360Error

# Each has ``register(subparsers)``. Their modules import heavy packages inside functions only.
GROUPS = (
    "demo",
    "serve",
    "mesh",
    "synth",
    "dataset",
    "train",
    "evaluate",
    "render",
    "looks",
    "fit",
    "edit",
    "extract",
    "export",
)

_STOPPED = "Stopped. Files that were finished are kept; the same command continues or starts again."
_INSTALL = 'pip install "head360[backend]"'


class _Parser(argparse.ArgumentParser):
    """Argument errors become ``BadInput``, so that ``--json`` callers get their object too."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise BadInput(f"{message[:1].upper()}{message[1:]} (see {self.prog} --help).")


class _Terminated(SystemExit):
    """Raised by SIGTERM; commands that know only SystemExit clean up all the same."""


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command group."""
    parser = _Parser(
        prog="head360", description="Neural 360° heads: train, render, serve, extract."
    )
    parser.add_argument("--version", action="version", version=f"head360 {head360.__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more to standard error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in GROUPS:
        importlib.import_module(f"head360.commands.{group}").register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (see ``head360.errors``)."""
    # torch and numba keep a thread pool each; OpenMP threads that spin while the other pool works
    # made training six times slower on two cores. Must be set before either is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)  # commands may set their own
    try:
        arguments = build_parser().parse_args(words)
        logging.basicConfig(
            stream=sys.stderr,
            level=logging.DEBUG if arguments.verbose else logging.INFO,
            format="%(asctime)s %(name)s %(levelname)s %(message)s",
            force=True,
        )
        for chatty in ("numba", "PIL"):  # their debug lines bury ours
            logging.getLogger(chatty).setLevel(logging.WARNING)
        return int(arguments.run(arguments) or 0)
    except Head360Error as error:
        return _report(error.code, str(error), error.exit_code, as_json)
    except KeyboardInterrupt:
        return _report(Cancelled.code, _STOPPED, 130, as_json)
    except _Terminated:
        return _report(Cancelled.code, _STOPPED, 128 + int(signal.SIGTERM), as_json)
    except ImportError as error:
        if error.name is None or error.name.startswith("head360"):
            raise
        sentence = f"This command needs {error.name}, which is not installed: {_INSTALL}."
        return _report("INPUT_INVALID", sentence, BadInput.exit_code, as_json)


def _terminated(number: int, _: object) -> None:
    """SIGTERM unwinds the stack, so that temporary folders and child processes are cleaned up."""
    raise _Terminated(128 + number)


def _report(code: str, sentence: str, exit_code: int, as_json: bool) -> int:
    sys.stderr.write(f"head360: {sentence}\n")
    if as_json:
        emit_json({"error": {"code": code, "message": sentence, "exit_code": exit_code}})
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
