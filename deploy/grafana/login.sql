-- The login of Grafana, made or brought up to date. For psql, as an account that may create roles, in the worker's
-- database after `worker migrate`; the password comes from the variable GRAFANA_PASSWORD:
--   psql --no-psqlrc --file deploy/grafana/login.sql postgresql://…
\set ON_ERROR_STOP on
SET client_min_messages = warning;
\set password ''
\getenv password GRAFANA_PASSWORD
SELECT :'password' = '' AS missing \gset
\if :missing
    DO $$ BEGIN RAISE EXCEPTION 'GRAFANA_PASSWORD is not set'; END $$;
\endif

SELECT 'CREATE ROLE grafana' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grafana') \gexec
ALTER ROLE grafana LOGIN PASSWORD :'password';
GRANT usage_reader TO grafana;

-- A panel that asks for too much ends, and leaves the worker its disk.
ALTER ROLE grafana SET statement_timeout = '30s';
ALTER ROLE grafana SET default_transaction_read_only = on;
