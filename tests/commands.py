"""The `unigeo` command run in this process, which saves the start of each."""

import numpy as np
import pandas as pd
import stores
from click.testing import CliRunner, Result

from unigeo.client.commands.cli import unigeo


def run(*args: object, stdin: str | bytes | None = None) -> Result:
    """What a command says, and its exit code; an error it did not foresee is raised."""
    result = CliRunner().invoke(unigeo, [*map(str, args)], input=stdin, terminal_width=200)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*args: object, stdin: str | bytes | None = None) -> str:
    """The standard output of a command that must succeed, and be quiet on stderr.

    It may say there how many rows have no vector, and show a long probe's progress.
    """
    result = run(*args, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if not line.startswith("probe:")]
    assert [line for line in said if line.strip() and " rows ha" not in line] == []
    return result.stdout


def refused(*args: object, stdin: str | bytes | None = None) -> str:
    """The message of a command that a user can mend: exit code 2, nothing on stdout."""
    result = run(*args, stdin=stdin)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert result.stderr.endswith(errors[0] + "\n")
    return errors[0]


def places(count: int = 300) -> pd.DataFrame:
    """Places in the store `gulf`, some in its lake; `height` follows the vectors."""
    lonlat = np.random.default_rng(0).uniform((-18, -13), (20, 9), (count, 2))
    vectors, _ = stores.encoder()("coordinate", lonlat)
    table = pd.DataFrame({"lon": lonlat[:, 0], "lat": lonlat[:, 1]})
    table["height"] = vectors @ np.arange(8.0)
    table["high"] = np.where(table["height"] > 0, "yes", "no")
    table["part"] = np.arange(count) % 6
    table["word"] = "a"
    return table
