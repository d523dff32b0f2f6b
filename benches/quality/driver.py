"""A throw-away server and a connection to it, for the measurements."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests" / "harness"))

import place  # noqa: E402
import wheel  # noqa: E402
from server import Server  # noqa: E402

try:
    import psycopg
except ImportError:
    sys.path.insert(0, str(wheel.packages(CHECKOUT / "tests" / "harness" / "requirements.txt")))
    import psycopg

# What a shop with a catalog of this size would set; fsync stays off, nobody will miss the data.
SETTINGS = {"shared_buffers": "512MB", "maintenance_work_mem": "512MB", "work_mem": "32MB", "jit": "off"}


def data() -> Path | None:
    """The folder of the public data sets: PERSONA_DATA, else shared/data beside the checkout; None if not there."""
    folder = Path(os.environ.get("PERSONA_DATA") or CHECKOUT.parent / "shared" / "data")
    return folder if folder.is_dir() else None


@contextlib.contextmanager
def server(preload: bool = True):
    """A running server with the extension in its database. PERSONA_DSN names one that runs already (it is left as it is,
    but for the tables of the data sets): good for trying things, not for figures."""
    with Server(settings=SETTINGS, preload=preload) as made:
        with connect(made.dsn()) as c:
            c.execute("CREATE EXTENSION IF NOT EXISTS pg_persona CASCADE")
        yield made


def connect(dsn: str):
    """A connection that commits each statement."""
    return psycopg.connect(dsn, autocommit=True)


__all__ = ["CHECKOUT", "connect", "data", "place", "psycopg", "server"]
