"""Who sees what."""

from case import Case, found, ids, one, outcome, sqlstate

SEARCH = "SELECT count(*) FROM persona.search(NULL::products, 'running shoes', user_id => %s::bigint)"


@outcome
def a_reader_without_events_searches_unpersonalised(case: Case) -> None:
    """A role without SELECT on the events gets 42501 with a user id, and results without one."""
    with case.connect(user="shelf_reader") as connection:
        assert sqlstate(connection, SEARCH, 1) == "42501"
        assert sqlstate(connection, "SELECT persona.score(p, 'shoes', user_id => 1) FROM products p LIMIT 1") == "42501"
        assert len(found(connection, k=10)) == 10
    with case.connect(user="reader") as connection:
        assert len(found(connection, user=1, k=10)) == 10


@outcome
def a_role_without_the_items_gets_nothing(case: Case) -> None:
    """A role without SELECT on the items gets 42501 from search, and a role without any right can't read the companions."""
    case.do("CREATE ROLE stranger LOGIN")
    try:
        with case.connect(user="stranger") as connection:
            assert sqlstate(connection, SEARCH, None) == "42501"
        for role in ("stranger", "reader", "keeper"):
            with case.connect(user=role) as connection:
                for table in ("products_persona", "products_persona_stats", "products_persona_pairs", "products_persona_terms"):
                    assert sqlstate(connection, f"SELECT count(*) FROM {table}") == "42501", (role, table)
    finally:
        case.do("DROP ROLE stranger")


@outcome
def row_level_security_hides_rows_and_fills_the_list(case: Case) -> None:
    """Under row-level security hidden rows never come back, and k rows do whenever k are visible, for both kinds of readers."""
    case.do("ALTER TABLE products ENABLE ROW LEVEL SECURITY; CREATE POLICY cheap ON products FOR SELECT TO reader USING (id % 50 = 0)")
    visible = case.one("SELECT count(*) FROM products WHERE id % 50 = 0")
    with case.connect(user="reader") as connection:
        for query, user in (("running shoes", None), ("running shoes", 1), ("", 1), ("warm and dry in the mountains", 2)):
            rows = found(connection, query, user=user, k=30)
            assert len(rows) == 30 <= visible, (query, user, len(rows))
            assert all(item % 50 == 0 for item in ids(rows))
        assert len(found(connection, "", k=100)) == min(visible, 100)
    with case.connect() as connection:
        assert any(item % 50 for item in ids(found(connection)))


@outcome
def row_level_security_on_events_limits_the_history(case: Case) -> None:
    """A role that may not see a shopper's events gets the results of a shopper nobody has seen."""
    case.do("ALTER TABLE events ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON events FOR SELECT TO reader USING (user_id = 1)")
    with case.connect(user="reader") as connection:
        assert found(connection, user=2) == found(connection, user=987654321)
        assert found(connection, user=1) != found(connection, user=987654321)


@outcome
def a_writer_of_items_needs_no_right_on_the_companions(case: Case) -> None:
    """A role that may only write items inserts, updates and deletes them: the trigger runs with the owner's rights."""
    with case.connect(user="keeper") as connection:
        connection.execute("INSERT INTO products SELECT 9001, 'Zorbulon quartz lamp', description, brand, category, type, style, color, "
                           "material, price, released FROM products WHERE id = 1")
        assert ids(found(connection, "zorbulon", k=1)) == [9001]
        connection.execute("UPDATE products SET title = 'Wimplow quartz lamp' WHERE id = 9001")
        # until the next refresh the word is no word of the lexicon, and willow is near: but an item has it
        assert ids(found(connection, "wimplow", k=1)) == [9001]
        connection.execute("DELETE FROM products WHERE id = 9001")
    with case.connect() as connection:
        assert one(connection, "SELECT count(*) FROM products_persona WHERE key = 9001") == 0


@outcome
def a_callers_search_path_can_not_take_over(case: Case) -> None:
    """Functions and operators that a caller puts in front of pg_catalog's are not called by the extension with the owner's rights."""
    case.do("GRANT CREATE ON SCHEMA public TO reader")
    with case.connect(user="reader") as connection:
        before = found(connection, user=1)
        connection.execute("""
            CREATE TABLE public.stolen (who name);
            CREATE FUNCTION public.thief(text) RETURNS text LANGUAGE sql AS $$ INSERT INTO public.stolen VALUES (current_user); SELECT $1 $$;
            CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN public.thief($1); END $$;
            CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN PERFORM public.thief(''); RETURN NULL; END $$;
            SET search_path = public, pg_catalog, persona""")
        rows = connection.execute("SELECT (item).id FROM persona.search(NULL::products, 'running shoes', user_id => 1) ORDER BY position").fetchall()
        assert [row[0] for row in rows] == ids(before)
    assert case.one("SELECT count(*) FROM stolen WHERE who <> 'reader'") == 0


@outcome
def a_reader_can_not_point_at_files(case: Case) -> None:
    """A role that is no superuser may set none of the settings that name a folder, a library or a program's files, for itself, for a function or for a role; a bundle is named within the folder only; and export_adapter writes nothing."""
    case.do("GRANT CREATE ON SCHEMA public TO reader")
    with case.connect() as connection:
        settings = {name: context for name, context in connection.execute("SELECT name, context FROM pg_settings WHERE name LIKE 'persona.%'")}
    with case.connect(user="reader") as connection:
        may = {name for name, context in settings.items() if context == "user"}
        assert "persona.model_dir" in settings and may, settings
        # whoever adds a setting decides whether everybody may set it
        assert may == {"persona.model", "persona.history_limit", "persona.maintenance_memory", "persona.threads", "persona.precision", "persona.device"}, may
        for name in set(settings) - may:
            value = "5" if "worker" in name else "/tmp"
            for sql in (f"SET {name} = '{value}'", f"SELECT set_config('{name}', '{value}', false)", f"ALTER ROLE reader SET {name} = '{value}'",
                        f"ALTER SYSTEM SET {name} = '{value}'", f"CREATE FUNCTION public.sly() RETURNS int LANGUAGE sql SET {name} = '{value}' AS 'SELECT 1'"):
                assert sqlstate(connection, sql) in ("42501", "55P02"), (sql, sqlstate(connection, sql))
        for name in ("/etc", "../models/all-MiniLM-L6-v2", "all-MiniLM-L6-v2/..", ""):
            states = {sqlstate(connection, f"SELECT persona.embed('x', model => '{name}')"), sqlstate(connection, f"SET persona.model = '{name}'; SELECT persona.embed('x')")}
            assert None not in states and "XX000" not in states, (name, states)
