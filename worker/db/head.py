"""The newest migration: what the schema must be at for this program. A test holds it against migrations/."""

HEAD = "0015"
