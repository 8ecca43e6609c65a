"""Parallel trials in worker processes of one thread each, which run many trials.

A worker reads the keys of trials from stdin, one per line, and writes the key to stdout when the
trial has ended, finished or failed. A worker that dies fails its trial only, and is replaced.
"""

import contextlib
import os
import queue
import subprocess
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO

from unigeo.producer.ablation.trials import ERROR, Trial, read_error, trial_folder
from unigeo.schemas.io.atomic_files import write_text

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_STOP_SECONDS = 10


def run_workers(
    pending: Sequence[Trial], command: Sequence[str], jobs: int, out: Path
) -> Generator[tuple[Trial, str | None], None, None]:
    """Run trials in `jobs` workers; yield each with its error, or None, when it ends.

    Closing the generator early, as after Ctrl-C, terminates the workers.

    Args:
        pending: trials, started in this order.
        command: command line of a worker.
        jobs: number of workers.
        out: folder of the trials; the workers' stderr goes to `worker-0.txt` and so on.
    """
    waiting: queue.SimpleQueue[Trial] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[Trial, str | None]] = queue.SimpleQueue()
    for trial in pending:
        waiting.put(trial)
    out.mkdir(parents=True, exist_ok=True)
    count = min(jobs, len(pending))
    workers = [_Worker(command, out, waiting, ended, number) for number in range(count)]
    for worker in workers:
        worker.start()
    try:
        for _ in pending:
            yield ended.get()
    finally:
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.join()


class _Worker(threading.Thread):
    """Thread that feeds trials to one worker process, and replaces the process when it dies."""

    def __init__(
        self,
        command: Sequence[str],
        out: Path,
        waiting: "queue.SimpleQueue[Trial]",
        ended: "queue.SimpleQueue[tuple[Trial, str | None]]",
        number: int,
    ) -> None:
        super().__init__(daemon=True)
        self._command, self._out = command, out
        self._waiting, self._ended = waiting, ended
        self._log_path = out / f"worker-{number}.txt"
        self._child: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        with self._log_path.open("w", encoding="utf-8") as log:
            while not self._stopped.is_set():
                try:
                    trial = self._waiting.get_nowait()
                except queue.Empty:
                    break
                try:
                    failure = self._run_trial(trial, log)
                except OSError as error:  # no process could be started
                    failure = str(error)
                if not self._stopped.is_set():
                    self._ended.put((trial, failure))
            self._close_child()

    def stop(self) -> None:
        """Terminate the process, in the middle of its trial."""
        self._stopped.set()
        if self._child is not None:
            self._child.terminate()

    def _run_trial(self, trial: Trial, log: IO[str]) -> str | None:
        child = self._running_child(log)
        assert child.stdin is not None and child.stdout is not None
        answer: str | None = None
        try:
            child.stdin.write(trial.key + "\n")
            child.stdin.flush()
            # Libraries may print to stdout too: skip every line but the key. None is the end of
            # the stream, when the process has died.
            answer = next((line for line in child.stdout if line.strip() == trial.key), None)
        except BrokenPipeError:
            answer = None  # the process died before it read the key
        if answer is None and not self._stopped.is_set():
            code = child.wait()
            folder = trial_folder(trial, self._out)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(
                folder / ERROR,
                f"its process ended with code {code} (-9: killed, as when memory runs out); "
                f"{self._log_path} may say why\n",
            )
        error = read_error(trial, self._out)
        return None if error is None else error.splitlines()[-1]

    def _running_child(self, log: IO[str]) -> "subprocess.Popen[str]":
        """Return the process; start one if there is none, or the last has died."""
        if self._child is None or self._child.poll() is not None:
            self._close_child()
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | ONE_THREAD,
                start_new_session=True,  # Ctrl-C reaches this process only, which stops the workers
            )
            # `stop` may have run before `_child` was set, and then terminated nothing.
            if self._stopped.is_set():
                self._child.terminate()
        return self._child

    def _close_child(self) -> None:
        """Close the process's stdin, at the end of which it exits, and wait for it."""
        child = self._child
        if child is None:
            return
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()
