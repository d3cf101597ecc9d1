"""The command line: `gradatim compare`, `gradatim methods`, `gradatim figure`, `gradatim cite`."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import gradatim as gr
from gradatim.compare.options import DESCRIPTION, EXAMPLES, add_compare_options, plan_of
from gradatim.figures.command import EXAMPLE, add_figure_options, listing, run_figure
from gradatim.validation import refusal

__all__ = ["main"]

USAGE_ERROR, CELLS_FAILED, UNEXPECTED, INTERRUPTED = 2, 1, 1, 130


class Parser(argparse.ArgumentParser):
    """Reports a wrong command in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line and leave with exit code 2."""
        near = self._meant(message)
        self.exit(USAGE_ERROR, f"{self.prog}: {message}.{near} Try: {self.prog} --help\n")

    def _meant(self, message: str) -> str:
        """Ask whether a known option was meant by one that is not."""
        unknown = [word for word in message.split() if word.startswith("--")]
        if "unrecognized" not in message or not unknown:
            return ""
        known = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command in action.choices.values():
                    known.update(command._option_string_actions)
        near = difflib.get_close_matches(unknown[0].partition("=")[0], sorted(known), n=1)
        return f" Did you mean {near[0]}?" if near else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Bad input costs one line on standard error and exit code 2, a failed cell exit code 1, Ctrl-C
    130. ``--debug`` shows the traceback.

    Args:
        arguments: without the program's name; None takes them from the command line.

    Returns:
        The exit code.

    Example:
        >>> main(["--version"])  # doctest: +ELLIPSIS
        gradatim ...
        0
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(words)
    except SystemExit as ending:  # argparse has printed help, version or its one line
        return int(ending.code or 0)
    options.command = shlex.join(["gradatim", *words])
    try:
        code = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("gradatim: stopped. The same command goes on where it was.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `gradatim methods | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.debug:
            traceback.print_exc()
            return USAGE_ERROR
        expected = isinstance(error, ValueError | TypeError | OSError | ImportError)
        line = " ".join(str(error).split()) or type(error).__name__
        if expected:
            print(f"gradatim: {line}", file=sys.stderr)
            return USAGE_ERROR
        kind = type(error).__name__
        print(f"gradatim: {kind}: {line} (--debug shows the traceback)", file=sys.stderr)
        return UNEXPECTED


def _parser() -> Parser:
    parser = Parser(prog="gradatim", description=gr.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"gradatim {gr.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    common = Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")

    compare = commands.add_parser(
        "compare",
        parents=[common],
        allow_abbrev=False,
        help="find out whether a curriculum helps on your data, at an equal budget",
        usage="gradatim compare [DATA] [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_compare_options(compare)
    compare.set_defaults(run=_compare)

    methods = commands.add_parser(
        "methods",
        parents=[common],
        allow_abbrev=False,
        help="list the curricula with their parameters and papers",
        description="List the curricula with their parameters and papers.",
    )
    methods.add_argument(
        "names", nargs="*", metavar="NAME", help="show these in full, with their parameters"
    )
    methods.set_defaults(run=_methods)

    figure = commands.add_parser(
        "figure",
        parents=[common],
        allow_abbrev=False,
        help="draw the papers' figures from recorded runs",
        usage="gradatim figure [NAME RUN.npz [RUN.npz]] [options]",
        description="Draw a figure from what gradatim.analysis.Recording saved of a run.",
        epilog=f"figures:\n{listing()}\n\n{EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_figure_options(figure)
    figure.set_defaults(run=run_figure)

    cite = commands.add_parser(
        "cite",
        parents=[common],
        allow_abbrev=False,
        help="print the BibTeX of curricula",
        description="Print the BibTeX entries of the papers behind curricula.",
    )
    cite.add_argument("names", nargs="+", metavar="NAME", help="as `gradatim methods` lists them")
    cite.set_defaults(run=_cite)
    return parser


def _compare(options: argparse.Namespace) -> int:
    from gradatim.compare.command import compare, rehearse
    from gradatim.compare.extras import check_installed

    check_installed()
    plan = plan_of(options)
    if options.dry_run:
        rehearse(plan, jobs=options.jobs)
        return 0
    failed = compare(
        plan,
        options.out,
        jobs=options.jobs,
        backend=options.backend,
        loggers=options.logger,
        command=options.command,
    )
    return CELLS_FAILED if failed else 0


def _methods(options: argparse.Namespace) -> int:
    from gradatim.compare.catalogue import show

    print(show(options.names))
    return 0


def _known_methods() -> dict[str, type]:
    public = {name: getattr(gr, name) for name in gr.__all__}
    kinds = (gr.Method, gr.mixing.Policy)
    return {
        name: thing
        for name, thing in public.items()
        if isinstance(thing, type) and issubclass(thing, kinds) and thing not in kinds
    }


def _cite(options: argparse.Namespace) -> int:
    known = {_spelling(name): method for name, method in _known_methods().items()}
    found = []
    for name in options.names:
        if _spelling(name) not in known:
            near = difflib.get_close_matches(_spelling(name), known, n=1)
            cause = f"Did you mean {known[near[0]].__name__}?" if near else ""
            raise refusal("name", "a curriculum that `gradatim methods` lists", repr(name), cause)
        found.append(known[_spelling(name)])
    print(gr.cite(*found) or "These rest on no paper.")
    return 0


def _spelling(name: str) -> str:
    """Read `SuperLoss` and the `super_loss` of `gradatim compare` alike."""
    return name.replace("_", "").lower()


if __name__ == "__main__":
    sys.exit(main())
