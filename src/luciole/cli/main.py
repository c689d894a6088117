"""`luciole VERB ...`: the entry point. Errors become words on standard error and an exit code; users see no traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from luciole.cli.check import check
from luciole.cli.compile import compile_command
from luciole.cli.inspect import inspect
from luciole.cli.lists import ops, targets
from luciole.cli.profile import profile
from luciole.cli.run import run
from luciole.cli.validate import validate_command
from luciole.errors import EXIT_INTERNAL, EXIT_USER, CompileError, LucioleError
from luciole.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="luciole")
def luciole() -> None:
    """Ahead-of-time neural-network compiler: a model in; object code or C99, a header and a report out.

    \b
    Exit codes: 0 done, 1 the model or the arguments, 2 unsupported, 3 over a budget,
    4 mismatch in validate, 70 a bug in Luciole.
    """


for command in (check, compile_command, run, validate_command, profile, inspect, targets, ops):
    luciole.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run_command(list(sys.argv[1:] if arguments is None else arguments)))


def run_command(arguments: list[str]) -> int:
    """Run one command and give its exit code."""
    try:
        luciole.main(arguments, prog_name="luciole", standalone_mode=False)
        return 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show(sys.stderr)
        return EXIT_USER
    except click.Abort:
        print("interrupted", file=sys.stderr)
        return EXIT_USER
    except BrokenPipeError:
        return 0
    except CompileError as error:
        print(error, file=sys.stderr)
        count = len(error.diagnostics)
        print(f"{count} error{'s' if count != 1 else ''}; nothing was written", file=sys.stderr)
        return error.exit_code
    except LucioleError as error:
        words = "internal error" if error.exit_code == EXIT_INTERNAL else "error"
        print(f"{words}: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        print(f"internal error: {type(error).__name__}: {error}", file=sys.stderr)
        print("  this is a bug in Luciole; please report it with the model and the command", file=sys.stderr)
        return EXIT_INTERNAL


if __name__ == "__main__":
    main()
