"""Rules across sessions and restores."""

from case import Case, one, outcome
from dump import restore

PIN = "INSERT INTO persona.rules (items, action, filter, slot) VALUES ('products', 'pin', '{\"id\": 77}', 3)"
THIRD = "SELECT (item).id, source LIKE '%pinned' FROM persona.search(NULL::products, 'running shoes', k => 3) WHERE position = 3"


@outcome
def a_campaign_is_seen_when_it_is_committed(case: Case) -> None:
    """A rule in an open transaction changes that transaction's results and nobody else's; committed, everybody's."""
    with case.connect(autocommit=False) as trying, case.connect() as other:
        before = other.execute(THIRD).fetchone()
        trying.execute(PIN)
        assert trying.execute(THIRD).fetchone() == (77, True)
        assert other.execute(THIRD).fetchone() == before != (77, True)
        trying.commit()
        assert other.execute(THIRD).fetchone() == (77, True)


@outcome
def rules_are_dumped_and_restored(case: Case) -> None:
    """pg_dump brings the rules along, and numbers go on where they stood."""
    case.do(PIN)
    name = f"{case.database}_again"
    try:
        restore(case, name, custom=True)
        with case.connect(database=name) as restored:
            assert restored.execute(THIRD).fetchone() == (77, True)
            restored.execute(PIN)
            assert one(restored, "SELECT count(DISTINCT id) FROM persona.rules") == 2
    finally:
        case.server.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', database="postgres")
