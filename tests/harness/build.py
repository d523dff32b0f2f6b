"""Builds the extension against a pg_config, with one profile, into a folder laid out as it will be installed.

Two things about cargo decide the shape of this file. A cdylib's file name carries no hash, and cargo tells sources that
changed by their time alone: two checkouts that share a target folder, or a tree unpacked with old times, would be
handed each other's library. So whatever builds here holds a lock on the target folder, and forgets the crate's own
fingerprints whenever the sources are not those last built; the dependencies stay compiled.

    build.py package --pg-config PATH --out DIR     the files to install, below DIR
    build.py install --pg-config PATH               into that Postgres
    build.py archive                                one .tar.gz for PG_CONFIG, or for each embedded Postgres, in dist/
    build.py cargo ...                              any cargo command, in the same target folder and under its lock
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import place
import wheel

CARGO_PGRX = "0.18.1"  # must equal the version of pgrx in Cargo.toml
SUPPORTED = range(14, 19)
INSTALL = """As root, with the pg_config of your Postgres:
  install -m 644 extension/* "$(pg_config --sharedir)/extension/"
  install -m 755 lib/* "$(pg_config --pkglibdir)/"
Then, in a database that has pgvector: CREATE EXTENSION pg_persona CASCADE;
"""
NOT_COMPILED = {"__pycache__", ".py", ".md", "harness", "cluster", "demo", "pg_regress", "quality"}


def target_folder() -> Path:
    """Where cargo compiles: CARGO_TARGET_DIR if the caller has set it, else in the cache."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or place.cache() / "target").absolute()


def environment(pg_config: Path | None = None) -> dict[str, str]:
    """The environment of every cargo command. pgrx looks nowhere but at the pg_config that is named here."""
    home = place.cache() / "pgrx"
    home.mkdir(exist_ok=True)
    if not (home / "config.toml").exists():
        # never read, but pgrx's build script watches it, and to cargo a watched file that is missing has always changed
        (home / "config.toml").write_text("[configs]\n")
    made = dict(
        os.environ,
        CARGO_TARGET_DIR=str(target_folder()),
        # build.rs passes the flag itself; through RUSTFLAGS it would compile every dependency a second time
        CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND="1",
        PGRX_HOME=str(home),
    )
    # make's own variables reach rustc's jobserver half-open
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        made.pop(name, None)
    if pg_config:
        made["PGRX_PG_CONFIG_PATH"] = str(pg_config)
    return made


def sources() -> str:
    """A hash of everything the crate is made of, and of where it lies (tests know their folder at compile time)."""
    total = hashlib.sha256(str(place.CHECKOUT).encode())
    files = [place.CHECKOUT / name for name in ("Cargo.toml", "Cargo.lock", "build.rs", "pg_persona.control")]
    for folder in ("src", "sql", "tests", "benches"):
        files += sorted((place.CHECKOUT / folder).rglob("*"))
    for file in files:
        if file.is_file() and not NOT_COMPILED.intersection((*file.parts, file.suffix)):
            total.update(f"{file.relative_to(place.CHECKOUT)}\0{file.stat().st_size}\0".encode())
            total.update(file.read_bytes())
    return total.hexdigest()


@contextlib.contextmanager
def locked():
    """The target folder, for us alone, with no fingerprint of other sources in it."""
    target = target_folder()
    with place.lock("persona-build", target):
        stamp, now = target / ".persona-sources", sources()
        if not stamp.exists() or stamp.read_text() != now:
            for old in target.glob("*/.fingerprint/pg_persona-*"):
                shutil.rmtree(old, ignore_errors=True)
            stamp.write_text(now)
        yield target


def cargo(*arguments: str, pg_config: Path | None = None, **options) -> subprocess.CompletedProcess:
    """Runs cargo in the checkout. The caller holds `locked()`."""
    return subprocess.run(["cargo", *arguments], cwd=place.CHECKOUT, env=environment(pg_config), **options)


def cargo_tool(name: str, version: str) -> str:
    """A program of crates.io in a pinned version, compiled into the cache (some minutes, once)."""
    def make(part: Path) -> None:
        place.say(f"compiling {name} {version} (some minutes, once)")
        done = subprocess.run(["cargo", "install", name, "--version", version, "--locked", "--quiet",
                               "--root", str(part), "--target-dir", str(part / "target")])
        shutil.rmtree(part / "target", ignore_errors=True)
        if done.returncode != 0:
            raise place.Failure(f"cargo install {name} --version {version} --locked failed")

    return str(place.once(place.cache() / f"{name}-{version}", make) / "bin" / name)


def cargo_pgrx() -> str:
    """The cargo-pgrx of the pinned version: the caller's own, or the cache's."""
    own = shutil.which("cargo-pgrx")
    if own:
        told = subprocess.run([own, "pgrx", "--version"], capture_output=True, text=True).stdout
        if told.split()[-1:] == [CARGO_PGRX]:
            return own
    return cargo_tool("cargo-pgrx", CARGO_PGRX)


def major(pg_config: Path) -> int:
    """The major version behind a pg_config."""
    try:
        told = subprocess.run([str(pg_config), "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise place.Failure(f"{pg_config} does not run: {error}") from error
    found = re.search(r"PostgreSQL (\d+)", told)
    if not found or int(found.group(1)) not in SUPPORTED:
        raise place.Failure(f"{pg_config} is {told.strip()}; supported are {SUPPORTED[0]} to {SUPPORTED[-1]}")
    return int(found.group(1))


def folder_of(pg_config: Path, what: str) -> Path:
    """One of pg_config's folders, e.g. `sharedir`."""
    done = subprocess.run([str(pg_config), f"--{what}"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def check_headers(pg_config: Path) -> None:
    """Says what to install where a Postgres has no server headers or no pgvector."""
    version = major(pg_config)
    if not (folder_of(pg_config, "includedir-server") / "postgres.h").exists():
        raise place.Failure(f"{pg_config} has no server headers: install postgresql-server-dev-{version}")
    if not (folder_of(pg_config, "sharedir") / "extension" / "vector.control").exists():
        raise place.Failure(f"the Postgres of {pg_config} has no pgvector: install postgresql-{version}-pgvector, "
                            "or build pgvector from its sources")


def package(pg_config: Path, out: Path, thin_lto: bool = False, features: tuple[str, ...] = ()) -> Path:
    """Builds against `pg_config` and writes the files to install below `out`: extension/* and lib/*.

    The layout is flat, not pg_config's own absolute paths, because the tree that is built against (pristine, shared)
    is not the one that is installed into (a copy that belongs to one run).
    """
    version = major(pg_config)
    check_headers(pg_config)
    tool = cargo_pgrx()
    place.say(f"building pg_persona for Postgres {version}")
    settings = environment(pg_config)
    if thin_lto:
        settings["CARGO_PROFILE_RELEASE_LTO"] = "thin"
    with tempfile.TemporaryDirectory() as scratch:
        with locked():
            done = subprocess.run([tool, "pgrx", "package", "--pg-config", str(pg_config), "--out-dir", scratch,
                                   "--no-default-features", "--features", ",".join((f"pg{version}", *features))],
                                  cwd=place.CHECKOUT, env=settings, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            raise place.Failure(f"the build for Postgres {version} failed")
        for kind, pattern in (("extension", "**/extension/pg_persona*"), ("lib", "**/pg_persona*.so")):
            (out / kind).mkdir(parents=True, exist_ok=True)
            for file in Path(scratch).glob(pattern):
                shutil.copy2(file, out / kind)
    # earlier releases stay installable, so that an upgrade has something to start from
    for script in (place.CHECKOUT / "sql").glob("pg_persona--*.sql"):
        if not (out / "extension" / script.name).exists():
            shutil.copy2(script, out / "extension")
    return out


def install(files: Path, pg_config: Path) -> None:
    """Copies packaged files into a Postgres. Each is renamed into place: a server may have the old library mapped."""
    share, lib = folder_of(pg_config, "sharedir") / "extension", folder_of(pg_config, "pkglibdir")
    for folder in (share, lib):
        if not os.access(folder, os.W_OK):
            kept = place.cache() / f"install-{major(pg_config)}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(files, kept)
            raise place.Failure(
                f"{folder} is not writable. The extension is built; to install it:\n"
                f"  sudo install -m 644 {kept}/extension/* {share}/ && sudo install -m 755 {kept}/lib/* {lib}/")
    for source, target in [*((f, share) for f in (files / "extension").iterdir()), *((f, lib) for f in (files / "lib").iterdir())]:
        part = target / f".{source.name}.{os.getpid()}"
        shutil.copyfile(source, part)
        part.chmod(0o755 if target == lib else 0o644)
        part.replace(target / source.name)


def archive() -> list[Path]:
    """Packs the extension with link-time optimisation, one archive for each Postgres, to be unpacked as its folders say."""
    if named := os.environ.get("PG_CONFIG"):
        configs = [Path(shutil.which(named) or named).absolute()]
    else:
        configs = [wheel.tree(version, wheel.postgres()) / "bin" / "pg_config" for version in wheel.TREES]
    made = []
    (place.CHECKOUT / "dist").mkdir(exist_ok=True)
    for pg_config in configs:
        name = f"pg_persona-{release()}-pg{major(pg_config)}-linux-{platform.machine()}"
        with place.vanishing() as run:
            package(pg_config, run / name, thin_lto=True)
            for file in ("LICENSE", "README.md", "CHANGELOG.md"):
                shutil.copy2(place.CHECKOUT / file, run / name)
            (run / name / "INSTALL").write_text(INSTALL)
            made.append(place.CHECKOUT / "dist" / f"{name}.tar.gz")
            with tarfile.open(made[-1], "w:gz") as tar:
                tar.add(run / name, name, filter=owned_by_root)
    return made


def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same archive whoever makes it."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def release() -> str:
    """The version in Cargo.toml."""
    return re.search(r'^version = "(.*)"', (place.CHECKOUT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("package", "install"):
        command = commands.add_parser(name)
        command.add_argument("--pg-config", type=Path, default=os.environ.get("PG_CONFIG") or "pg_config")
        command.add_argument("--out", type=Path, help="where the package goes (package)")
        command.add_argument("--thin-lto", action="store_true", help="link-time optimisation: slower to build, smaller")
    commands.add_parser("archive")
    commands.add_parser("cargo").add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.command == "cargo":
        with locked():
            return cargo(*options.arguments).returncode
    if options.command == "archive":
        print(*archive(), sep="\n")
        return 0
    options.pg_config = Path(shutil.which(str(options.pg_config)) or options.pg_config).absolute()
    version = major(options.pg_config)
    if options.command == "package":
        out = (options.out or Path.cwd() / f"pg_persona-pg{version}").absolute()
        package(options.pg_config, out, options.thin_lto)
        print(out)
        return 0
    with place.vanishing() as run:
        install(package(options.pg_config, run / "package", options.thin_lto), options.pg_config)
    print(f"pg_persona is installed for Postgres {version}. In your database, as a superuser:\n"
          "  CREATE EXTENSION pg_persona CASCADE;\n"
          "It needs a folder of models: see persona.model_dir in README.md.")
    return 0


if __name__ == "__main__":
    place.main(main)
