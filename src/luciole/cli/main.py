"""`luciole VERB ...`: the entry point. Errors become words on standard error and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from luciole.errors import EXIT_INTERNAL, EXIT_USER, CompileError, LucioleError
from luciole.version import __version__

#: What shells use for a program that was interrupted: 128 and the number of the signal.
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Verb:
    """Where a verb's command is, and what it does in one line; the module is imported when the verb is used."""

    module: str
    command: str
    help: str


VERBS = {
    "check": Verb("luciole.cli.check", "check", "List all that would not compile, with node and remedy."),
    "compile": Verb("luciole.cli.compile", "compile_command", "Compile a model into a bundle."),
    "run": Verb("luciole.cli.run", "run", "Run a model on arrays, here or on an emulated core."),
    "validate": Verb(
        "luciole.cli.validate", "validate_command", "Compare a compiled model with its reference on data."
    ),
    "quantize": Verb("luciole.cli.quantize", "quantize", "Make a float model one of integers, and say what it costs."),
    "profile": Verb("luciole.cli.profile", "profile", "Count what each layer costs on an emulated core."),
    "inspect": Verb("luciole.cli.inspect", "inspect", "Show tensors, layers, flash, and RAM over time."),
    "tune": Verb("luciole.cli.tune", "tune_command", "Try parameters of the kernels for a target."),
    "targets": Verb("luciole.cli.targets", "targets", "List the cores and machines to compile for."),
    "ops": Verb("luciole.cli.ops", "ops", "List the operators and their kernels."),
}


class Verbs(click.Group):
    """The verbs, imported one by one when they are used, so that the program starts quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all verbs, in order of use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        command: click.Command = getattr(import_module(verb.module), verb.command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs in the help, without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb. When the reader of the output goes away, that is no error."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            _discard_output()
            return None


@click.command(
    cls=Verbs,
    subcommand_metavar="VERB ...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="luciole")
def luciole() -> None:
    """Ahead-of-time neural-network compiler: a model in; object code or C99, a header and a report out.

    \b
    Exit codes: 0 done, 1 the model or the arguments, 2 unsupported, 3 over a budget,
    4 mismatch in validate, 70 a bug in Luciole.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    code = run_command(list(sys.argv[1:] if arguments is None else arguments))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    sys.exit(code)


def run_command(arguments: list[str]) -> int:
    """Run one command and give its exit code."""
    try:
        result = luciole.main(arguments, prog_name="luciole", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show(sys.stderr)
        return EXIT_USER
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except CompileError as error:
        print(error, file=sys.stderr)
        count = len(error.diagnostics)
        print(f"{count} error{'s' if count != 1 else ''}; nothing was written", file=sys.stderr)
        return error.exit_code
    except LucioleError as error:
        if error.exit_code != EXIT_INTERNAL:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        return _report_bug(error)
    except MemoryError:
        print("error: there is not enough memory for this model", file=sys.stderr)
        return EXIT_USER
    except Exception as error:
        return _report_bug(error)


def _report_bug(error: Exception) -> int:
    """Say that we are wrong, and where what reproduces it is."""
    message = str(error) if isinstance(error, LucioleError) else f"{type(error).__name__}: {error}"
    print(f"internal error: {message}", file=sys.stderr)
    if "\n  reproducer: " not in message:
        from luciole.crash import write_crash_folder

        print(f"  reproducer: {write_crash_folder(error)}", file=sys.stderr)
    print("  this is a bug in Luciole; please report it, with that folder if the model may be shown", file=sys.stderr)
    return EXIT_INTERNAL


def _discard_output() -> None:
    """Let what is still to be printed go nowhere, so that the interpreter's last flush does not fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


if __name__ == "__main__":
    main()
