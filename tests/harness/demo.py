"""make demo: the demo shop on a throw-away server, searched for two shoppers.

With KEEP=1 the server stays, and how to reach and end it is printed.
"""

from __future__ import annotations

import os
import subprocess
import sys

import place
from server import Server, connection

DEMO = place.CHECKOUT / "tests" / "demo"


def main() -> int:
    keep = os.environ.get("KEEP", "") not in ("", "0")
    version = os.environ.get("PG")
    with Server(int(version) if version else None, keep=keep) as server:
        try:
            server.psql("CREATE EXTENSION pg_persona CASCADE")
            place.say(f"making the demo shop (Postgres {server.version})")
            if server.psql_file(DEMO / "shop.sql").returncode != 0:
                raise place.Failure("the demo shop could not be made")
            # -e shows each statement above its result; notices go to where the results go
            done = server.psql_file(DEMO / "demo.sql", "-e", stderr=subprocess.STDOUT)
            if done.returncode != 0:
                raise place.Failure(f"the demo stopped; the end of the server's log:\n{server.log()}")
        except BaseException:
            server.keep = False
            raise
        sys.stdout.flush()
        if keep:
            print(f"\nThe server stays. To look around, and to end it:\n{connection(server)}")
        else:
            print("\nThe server is gone again. make demo KEEP=1 leaves it running.")
    return 0


if __name__ == "__main__":
    place.main(main)
