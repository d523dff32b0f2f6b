"""Where things lie: the checkout, the cache, the folder of one run; and the locks that let runs share the cache.

The cache holds what is costly and the same for every run: wheels, the embedded Postgres, models, compiled crates. A run
never writes to it except under a lock and by one rename, so a thing in the cache is either whole or absent. Whatever
belongs to one run (a server's data, the tree the extension is installed into) lies in a folder of its own under /tmp:
short, because the path of a Unix socket may have 107 bytes, and readable by the unprivileged user that Postgres runs as.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import sys
import tempfile
from pathlib import Path

ALIVE = ".alive"  # locked while the run lives
KEPT = ".kept"  # the run has ended and its server has not
HELD: list = []  # open files whose locks last as long as this process
CHECKOUT = Path(__file__).resolve().parents[2]

# Where rustup puts cargo; a shell that has not been opened anew does not know it yet. needs.sh looks there too.
os.environ["PATH"] += os.pathsep + os.path.join(os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo"), "bin")

# A stricter mask would hide the staged Postgres from the user it runs as.
os.umask(0o022)


class Failure(Exception):
    """Something the user can mend: printed without a traceback."""


def say(text: str) -> None:
    """A line of progress, on stderr, so that stdout stays the result."""
    print(f"==> {text}", file=sys.stderr, flush=True)


def cache() -> Path:
    """PERSONA_CACHE, else pg_persona in the user's cache folder. Made when missing."""
    named = os.environ.get("PERSONA_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(named or os.path.join(home, "pg_persona")).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"cannot make the cache folder {folder}: {error.strerror}; name another with PERSONA_CACHE=") from error
    return folder


@contextlib.contextmanager
def lock(name: str, folder: Path | None = None):
    """Holds an exclusive lock on `name`; a second run waits and says so. The kernel drops it with the process."""
    path = (folder or cache()) / f".{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run ({path})")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def once(target: Path, make) -> Path:
    """`target`, made by `make(empty folder)` if it is not there yet, and moved into place by one rename."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock(target.name, target.parent):
            if not target.exists():
                part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
                try:
                    make(part)
                    part.chmod(0o755)
                    part.rename(target)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    return target


def run_folder() -> Path:
    """A new folder for one run, which everybody may enter. Removing it is the caller's, see `vanishing`.

    The run holds a lock on a file in it, so that a later run can tell the folder of one that was killed, and remove it.
    """
    base = Path("/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir())
    for old in base.glob("persona-*"):
        with contextlib.suppress(OSError):
            if old.stat().st_uid == os.geteuid() and not (old / KEPT).exists():
                with open(old / ALIVE) as handle:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="persona-", dir=base))
    folder.chmod(0o755)
    handle = open(folder / ".new", "w")
    fcntl.flock(handle, fcntl.LOCK_EX)
    (folder / ".new").rename(folder / ALIVE)  # locked before anybody can find it by this name
    HELD.append(handle)
    return folder


@contextlib.contextmanager
def vanishing():
    """A run's folder, gone at the end, also at an interrupt."""
    folder = run_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_tree(source: Path, target: Path, link: bool = False) -> None:
    """Copies a folder. With `link`, files that nobody rewrites are shared with the cache instead of copied."""

    def share(a, b):
        try:
            os.link(a, b)
        except OSError:  # another filesystem, or another owner's file
            shutil.copy2(a, b)
        return b

    shutil.copytree(source, target, copy_function=share if link else shutil.copy2, symlinks=True)


def server_user() -> pwd.struct_passwd | None:
    """Whom Postgres runs as: None for the caller; another when the caller is root, since Postgres refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Failure("Postgres does not run as root, and there is neither a user postgres nor nobody: useradd -r postgres")


def end_on_signals() -> None:
    """Turns SIGTERM and SIGHUP into an ordinary exit, so that `with` blocks clean up as at Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))


def main(body) -> None:
    """Runs a script's main function: a `Failure` becomes one line and exit status 1."""
    end_on_signals()
    atexit.register(sys.stdout.flush)
    try:
        sys.exit(body() or 0)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
