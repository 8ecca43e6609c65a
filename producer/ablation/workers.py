"""Several trainings at once, in processes of one thread each that live for many runs.

A worker reads the keys of runs, a line each, and answers with the key when the run has ended,
finished or failed. One that dies costs its run only: the next run gets a new one.
"""

import contextlib
import os
import queue
import subprocess
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO

from unigeo.producer.ablation.trials import ERROR, Trial, error_of, folder_of, write_whole

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_STOP_SECONDS = 10


def run_workers(
    todo: Sequence[Trial], command: Sequence[str], jobs: int, out: Path
) -> Generator[tuple[Trial, str | None], None, None]:
    """Keep `jobs` workers busy; yields each trial when it ends, with what failed.

    When this is left early, as by Ctrl-C, the workers are ended.

    Args:
        todo: to be started in this order.
        command: starts a worker.
        jobs: how many at once.
        out: folder of the trials; `worker-0.txt` and so on get what the workers say on stderr.
    """
    waiting: queue.SimpleQueue[Trial] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[Trial, str | None]] = queue.SimpleQueue()
    for trial in todo:
        waiting.put(trial)
    out.mkdir(parents=True, exist_ok=True)
    count = min(jobs, len(todo))
    workers = [_Worker(command, out, waiting, ended, number) for number in range(count)]
    for worker in workers:
        worker.start()
    try:
        for _ in todo:
            yield ended.get()
    finally:
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.join()


class _Worker(threading.Thread):
    """Feeds one process after the other."""

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
        self._said = out / f"worker-{number}.txt"
        self._child: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        with self._said.open("w", encoding="utf-8") as said:
            while not self._stopped.is_set():
                try:
                    trial = self._waiting.get_nowait()
                except queue.Empty:
                    break
                try:
                    failure = self._carry_out(trial, said)
                except OSError as error:  # no process could be started
                    failure = str(error)
                if not self._stopped.is_set():
                    self._ended.put((trial, failure))
            self._end_child()

    def stop(self) -> None:
        """End the process, in the middle of its run."""
        self._stopped.set()
        if self._child is not None:
            self._child.terminate()

    def _carry_out(self, trial: Trial, said: IO[str]) -> str | None:
        child = self._alive(said)
        assert child.stdin is not None and child.stdout is not None
        answer: str | None = None
        try:
            child.stdin.write(trial.key + "\n")
            child.stdin.flush()
            answer = next((line for line in child.stdout if line.strip() == trial.key), None)
        except BrokenPipeError:
            answer = None  # it died before
        if answer is None and not self._stopped.is_set():
            code = child.wait()
            folder = folder_of(trial, self._out)
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(
                folder / ERROR,
                f"its process ended with code {code} (-9: killed, as when memory runs out); "
                f"{self._said} may say why\n",
            )
        error = error_of(trial, self._out)
        return None if error is None else error.splitlines()[-1]

    def _alive(self, said: IO[str]) -> "subprocess.Popen[str]":
        """Give the process, a new one where the last has died."""
        if self._child is None or self._child.poll() is not None:
            self._end_child()
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=os.environ | ONE_THREAD,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
            if self._stopped.is_set():  # between the two, so that `stop` has not seen it
                self._child.terminate()
        return self._child

    def _end_child(self) -> None:
        """Let the process end by itself, as it does when there is nothing more to read."""
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
