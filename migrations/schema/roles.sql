-- -- Who may do what -----------------------------------------------------------------------------------------------

-- Three roles to grant to people and programs. A worker that may not create roles runs as a plain owner and does
-- without: nothing else depends on them.
DO $$
DECLARE
    wanted text;
BEGIN
    IF NOT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
        RETURN;
    END IF;
    FOREACH wanted IN ARRAY ARRAY['usage_owner', 'usage_writer', 'usage_reader'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            RAISE DEBUG 'role % is already there', wanted;
        END;
    END LOOP;
END
$$;

-- What each of them may. What the owner's functions do with the owner's rights is not for everybody.
DO $$
BEGIN
    REVOKE ALL ON FUNCTION usage.ensure_record_partition(date), usage.drop_record_partition(date) FROM PUBLIC;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_reader') THEN
        GRANT USAGE ON SCHEMA usage_api, usage_internal TO usage_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA usage_api TO usage_reader;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage_api, usage_internal TO usage_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA usage_api GRANT SELECT ON TABLES TO usage_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_writer') THEN
        GRANT USAGE ON SCHEMA usage, usage_api, usage_internal TO usage_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA usage TO usage_writer;
        GRANT SELECT ON ALL TABLES IN SCHEMA usage_api TO usage_writer;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage_api, usage_internal TO usage_writer;
        REVOKE INSERT, UPDATE, DELETE ON usage.schema_version FROM usage_writer;
        ALTER DEFAULT PRIVILEGES IN SCHEMA usage GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO usage_writer;
        ALTER DEFAULT PRIVILEGES IN SCHEMA usage_api GRANT SELECT ON TABLES TO usage_writer;
        GRANT EXECUTE ON FUNCTION usage.ensure_record_partition(date), usage.drop_record_partition(date) TO usage_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_owner') THEN
        GRANT USAGE, CREATE ON SCHEMA usage, usage_api, usage_internal TO usage_owner;
    END IF;
END
$$;
