"""Processes of their own, for what a test must not do in its own, or cannot.

None of them can stop the suite. What a process prints goes to files, since a pipe stays
open as long as any child of the process lives; the process leads a group that is killed
when it ends or when its time is over, and says where it stood.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]


def run(command, *, timeout=300, check=True, stdin=None, **options):
    """Return the `subprocess.CompletedProcess` of `command`, with texts of its output.

    Parameters
    ----------
    command : list
        The program and its arguments.
    timeout : float, default=300
        Seconds until it is aborted and the test fails.
    check : bool, default=True
        Fail unless it returns 0.
    stdin : file, default=None
        What it reads, nothing by default.
    **options
        Arguments of `subprocess.Popen`, as `cwd` and `env`.
    """
    command = [str(part) for part in command]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=out,
            stderr=err,
            start_new_session=True,
            **options,
        )
        late = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            late = True
            process.send_signal(signal.SIGABRT)  # faulthandler prints where it stands
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        finally:
            _end(process)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    tail = "\n".join(text[-3000:] for text in texts)
    assert not late, f"{command} has not ended after {timeout} s:\n{tail}"
    assert not check or process.returncode == 0, f"{command} failed:\n{tail}"
    return subprocess.CompletedProcess(command, process.returncode, *texts)


def run_python(*arguments, **options):
    """Return what `run` returns of this Python with `arguments`."""
    return run([sys.executable, "-X", "faulthandler", *arguments], **options)


def _end(process):
    """Kill the process and all that it has started."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
