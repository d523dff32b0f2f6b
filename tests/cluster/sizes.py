"""How much of a thing a test does: in `make test`, and in `make soak`."""

import os

# The variable that sets it: what `make test` does, what `make soak` does, and what it counts.
SIZES = {
    "PERSONA_INTERRUPT_TRIES": (20, 200, "tries of each call that is cancelled or timed out"),
    "PERSONA_KILL_CYCLES": (50, 500, "kills of a backend"),
    "PERSONA_EMBEDS": (50_000, 1_000_000, "embeddings in one backend"),
    "PERSONA_ERRORS": (100_000, 1_000_000, "caught errors in one backend"),
    "PERSONA_LOAD_SECONDS": (30, 1800, "seconds of mixed load"),
    "PERSONA_SMITH_SECONDS": (60, 7200, "seconds of random statements, others on each version"),
    "PERSONA_LIMIT_SECONDS": (300, 14_400, "seconds that a test may take"),
}


def size(name: str) -> int:
    """How much of it this run does."""
    return int(os.environ.get(name, SIZES[name][0]))
