"""What the audit makes of an answer."""

import audit


def test_a_known_vulnerability_fails_and_what_is_not_known_is_said(capsys):
    well = {"name": "httpx", "version": "0.28.1", "vulns": []}
    skipped = {"name": "psycopg", "skip_reason": "not found"}
    bad = {"name": "oldlib", "version": "1.0", "vulns": [{"id": "PYSEC-0000-1"}]}
    assert audit.report([well, skipped]) == 0
    assert "audited 1 of 2 packages" in capsys.readouterr().out
    assert audit.report([well, bad, skipped]) == 1
    assert "oldlib 1.0: PYSEC-0000-1" in capsys.readouterr().out
