"""Helpers that run the `unigeo` command in this process, which saves its start."""

import numpy as np
import pandas as pd
from click.testing import CliRunner, Result

from support import stores
from unigeo.client.commands.cli import unigeo


def run(*args: object, stdin: str | bytes | None = None) -> Result:
    """Run a command; return its output and exit code, and raise any unexpected error."""
    result = CliRunner().invoke(unigeo, [*map(str, args)], input=stdin, terminal_width=200)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*args: object, stdin: str | bytes | None = None) -> str:
    """Return the standard output of a command that must succeed and be quiet on stderr.

    The number of rows without a vector and the progress of a long probe are allowed there.
    """
    result = run(*args, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    output = [line for line in result.stderr.splitlines() if not line.startswith("probe:")]
    assert [line for line in output if line.strip() and " rows ha" not in line] == []
    return result.stdout


def refused(*args: object, stdin: str | bytes | None = None) -> str:
    """Return the error message of a command that must fail: exit code 2, nothing on stdout."""
    result = run(*args, stdin=stdin)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert result.stderr.endswith(errors[0] + "\n")
    return errors[0]


def point_table(count: int = 300) -> pd.DataFrame:
    """Return points in the store `gulf`, some in its lake; `height` follows the vectors."""
    lonlat = np.random.default_rng(0).uniform((-18, -13), (20, 9), (count, 2))
    vectors, _ = stores.encoder()("coordinate", lonlat)
    table = pd.DataFrame({"lon": lonlat[:, 0], "lat": lonlat[:, 1]})
    table["height"] = vectors @ np.arange(8.0)
    table["high"] = np.where(table["height"] > 0, "yes", "no")
    table["part"] = np.arange(count) % 6
    table["word"] = "a"
    return table
