-- name: there
-- Whether the example's table was made before.
SELECT to_regclass('app.docs') IS NOT NULL AS yes;

-- name: schema
CREATE SCHEMA IF NOT EXISTS app;

-- name: table
-- A user's own: nothing in it is of ours.
CREATE TABLE app.docs (name text PRIMARY KEY, signature text NOT NULL, body text NOT NULL);

-- name: fill
COPY app.docs (name, signature, body) FROM STDIN;

-- name: keys_of_rows
SELECT name FROM app.docs ORDER BY name;

-- name: edit
-- As a user edits: the same line at the end, written anew.
UPDATE app.docs SET body = regexp_replace(body, '\n\nRead .*$', '') || E'\n\nRead ' || now() WHERE name = %(name)s;
