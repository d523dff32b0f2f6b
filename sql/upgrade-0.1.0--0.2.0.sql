-- What the comparison of two releases cannot write: changes of tables, in the order in which they are made.
-- tests/harness/upgrade.py puts these first. A column goes last in its table, here and in tables.sql alike or not: the
-- test of the upgrade compares columns by name.

ALTER TABLE persona.catalog ADD COLUMN lexicon regclass, ADD COLUMN queries regclass, ADD COLUMN baskets regclass, ADD COLUMN learned regclass;
