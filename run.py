"""Run one experiment: ``python run.py model=spagan data=cora``; ``python run.py --help`` lists everything."""

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.configuration.command_line import Request

CONF = Path(__file__).resolve().parent / "conf"


def main() -> None:
    """Entry of the command line; exits with 0, or 2 for a user's mistake, or 1 for a crash."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Composes, checks and runs what the command line asks for, and returns the exit status.

    Nothing heavy is imported before the configuration is known to be good.

    Args:
        arguments: the command line without the program's name.
    """
    from harness.errors import UserError
    from harness.run_folder import secret_values, without_secrets
    from harness.stopping import EXIT_STATUS, PRUNED_STATUS, Pruned, StoppedTogether

    secrets: set[str] = set()  # a sweep keeps what its jobs print
    try:
        from harness.configuration.command_line import parse

        request = parse(arguments)
        if request.action != "run":
            return _tell(_information(request))
        if request.multirun:
            from harness.sweeps.sweep import run_sweep

            return run_sweep(request.overrides, CONF)

        from harness.configuration.check import check
        from harness.configuration.compose import compose
        from harness.resume import continued_words
        from harness.sweeps.settings import check_sweep

        words = continued_words(request.overrides)
        composed = compose(words, CONF)
        secrets = secret_values(composed.config)
        check(composed.config, composed.choices, CONF)
        check_sweep(composed.sweep)

        from harness.run_log import quieten_libraries
        from harness.stopping import STOP

        with STOP.installed():  # from before the imports on, which take seconds
            quieten_libraries(
                Path(composed.config["paths"]["cache"]).expanduser()
            )  # before they are imported

            from harness.session import run_session

            run_session(composed.config, composed.choices, ["python", "run.py", *arguments], words)
    except UserError as error:
        print(without_secrets(f"error: {error}", secrets), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"stopped by the keyboard{_how_to_go_on(stopped)}", file=sys.stderr)
        return 130
    except Pruned as pruned:
        print(f"pruned: {pruned.reason}", file=sys.stderr)
        return PRUNED_STATUS
    except StoppedTogether as stopped:
        from harness.launch import is_first_process, launched

        if is_first_process():
            print(f"stopped by a signal{_how_to_go_on(stopped)}", file=sys.stderr)
        elif launched() is None:
            return 0  # Lightning kills the first process, which may still send its rows, for any other status
        return EXIT_STATUS
    except SystemExit as stopped:
        print(f"stopped by a signal{_how_to_go_on(stopped)}", file=sys.stderr)
        return stopped.code if isinstance(stopped.code, int) and stopped.code else 143
    except Exception as error:
        where = getattr(error, "run_log", None)
        last = f"crashed: {type(error).__name__}: {error}" + (f" (see {where})" if where else "")
        print(without_secrets(traceback.format_exc() + last, secrets), file=sys.stderr)
        return 1
    return 0


def _tell(text: str) -> int:
    """Prints ``text``; 0 also where the reader has had enough, as in ``python run.py --help | head``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
    return 0


def _how_to_go_on(stopped: BaseException) -> str:
    folder = getattr(stopped, "run_folder", None)
    return f"; go on with: python run.py resume={folder}" if folder else ""


def _information(request: "Request") -> str:
    """What ``--help``, ``--version`` and ``--cfg job`` print."""
    if request.action == "help":
        from harness.configuration.help import help_text

        return help_text(request.overrides, CONF)
    if request.action == "version":
        from importlib.metadata import version

        return f"tenfold {version('tenfold')}"
    from harness.configuration.compose import config_text

    words = request.overrides
    if request.multirun:
        from harness.sweeps.plan import first_combination

        words = first_combination(words)
    return config_text(words, CONF, request.resolve)


if __name__ == "__main__":
    main()
