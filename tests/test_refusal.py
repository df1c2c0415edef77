from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from worker.cliproxyapi.lockout import Refusals
from worker.config import Config, Upstream
from worker.db.database import connect
from worker.errors import UpstreamBanned, UpstreamRefused
from worker.simulator.proxy import Simulator
from worker.sync import run as sync

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def upstream(url="http://127.0.0.1:1", key="wrong"):
    return Upstream(url=url, key=SecretStr(key))


def refused(**more):
    return UpstreamRefused("invalid management key", endpoint="usage-statistics-enabled", status=401, **more)


def stands(refusals, at):
    try:
        refusals.check(at)
    except UpstreamRefused:
        return True
    return False


def test_nothing_stands_before_a_refusal(tmp_path):
    assert not stands(Refusals(tmp_path, upstream()), NOW)


def test_a_refusal_stands_for_half_an_hour(tmp_path):
    refusals = Refusals(tmp_path, upstream())
    refusals.remember(refused(), NOW)
    assert stands(refusals, NOW + timedelta(minutes=30) - timedelta(seconds=1))
    assert not stands(refusals, NOW + timedelta(minutes=30))


def test_a_ban_stands_as_long_as_the_proxy_said(tmp_path):
    refusals = Refusals(tmp_path, upstream())
    banned = UpstreamBanned("banned", endpoint="usage-statistics-enabled", status=403, retry_after_s=90)
    refusals.remember(banned, NOW)
    assert stands(refusals, NOW + timedelta(seconds=89))
    assert not stands(refusals, NOW + timedelta(seconds=90))


@pytest.mark.parametrize("wrong", [timedelta(hours=2), timedelta(days=3650)])
def test_a_refusal_noted_while_the_clock_was_ahead_blocks_no_longer_than_it_would_have(tmp_path, wrong):
    refusals = Refusals(tmp_path, upstream())
    refusals.remember(refused(), NOW + wrong)
    assert not stands(refusals, NOW)


@pytest.mark.parametrize("changed", [upstream(key="other"), upstream(url="http://127.0.0.1:2")])
def test_another_key_or_url_is_tried_at_once(tmp_path, changed):
    Refusals(tmp_path, upstream()).remember(refused(), NOW)
    assert not stands(Refusals(tmp_path, changed), NOW)


def test_the_file_tells_the_key_to_nobody(tmp_path):
    refusals = Refusals(tmp_path, upstream(key="EXAMPLE-management-key"))
    refusals.remember(refused(), NOW)
    (file,) = (tmp_path / "refused").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "EXAMPLE-management-key" not in file.read_text()


def test_a_damaged_file_stands_in_no_way(tmp_path):
    refusals = Refusals(tmp_path, upstream())
    refusals.remember(refused(), NOW)
    (file,) = (tmp_path / "refused").iterdir()
    file.write_text("{")
    assert not stands(refusals, NOW)


def test_a_schedule_with_a_wrong_key_asks_once_and_is_never_banned(database_url, tmp_path):
    engine = connect(database_url)
    with Simulator(key="right") as proxy:
        wrong = Config(data_dir=tmp_path, upstream=(upstream(proxy.url, "wrong"),))
        results = [sync.sync_once(wrong, engine, wrong.upstream[0]) for _ in range(6)]
        assert [r.exit_code for r in results] == [4] * 6
        assert "not asked before" in results[-1].error
        assert proxy.auth_failures == 1
        assert len(proxy.requests) == 1

        right = Config(data_dir=tmp_path, upstream=(upstream(proxy.url, "right"),))
        assert sync.sync_once(right, engine, right.upstream[0]).exit_code == 0
        assert not list((tmp_path / "refused").iterdir())
    engine.dispose()
