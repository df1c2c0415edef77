"""Everything at once on one database: passes, imports, and all that rewrites history, each a process of its own."""

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from support import calls, differing, expected, proxy

from worker.simulator import traffic

UPSTREAMS = ("berlin", "tokyo", "lima")
ROUNDS = 3
PRICE = "WORKER__PRICES__OWN__0__INPUT_USD_PER_MTOK"


def test_many_commands_at_once_wait_or_try_again_and_the_books_are_exact(books, tmp_path):
    some = calls(1500)
    proxies = {name: proxy("queue", some[:500]) for name in UPSTREAMS}
    file = tmp_path / "export.jsonl"
    file.write_text("\n".join(json.dumps(traffic.queue_item(call)) for call in some[250:1250]))

    def again(*arguments, simulator=None, **environment):
        """Run a command some times; what it may come to in company is well, or that it stood by."""
        for _ in range(ROUNDS):
            finished = books.worker(simulator, *arguments, **environment)
            assert finished.code in (0, 75), (arguments, finished.code, finished.stderr[-3000:])
            assert "Traceback" not in finished.stderr
        return arguments

    def passes(name):
        simulator = proxies[name]
        for n in range(4):
            finished = books.worker(simulator, "sync", "--once", WORKER_UPSTREAM_NAME=name)
            assert finished.code in (0, 75), finished.stderr[-3000:]
            simulator.push(some[500 + n * 250 : 750 + n * 250])

    for simulator in proxies.values():
        simulator.start()
    with ThreadPoolExecutor(10) as pool:
        done = [pool.submit(passes, name) for name in UPSTREAMS]
        done += [pool.submit(again, "import", "--upstream", name, str(file)) for name in UPSTREAMS[:2]]
        done += [
            pool.submit(again, "resolve", "--all", simulator=proxies["tokyo"], WORKER_UPSTREAM_NAME="tokyo"),
            pool.submit(again, "reprice", **{PRICE: "3"}),
            pool.submit(again, "reprice", **{PRICE: "5"}),
            pool.submit(again, "rebuild"),
            pool.submit(again, "maintain"),
        ]
        for one in done:
            one.result(timeout=300)
    for name, simulator in proxies.items():
        assert books.worker(simulator, "sync", "--once", WORKER_UPSTREAM_NAME=name, **{PRICE: "7"}).code == 0
        assert simulator.queued == 0
        simulator.stop()
    assert books.worker(None, "reprice", **{PRICE: "7"}).code == 0
    assert books.worker(None, "verify").code == 0
    books.balance()
    found = books.daily_by_upstream()
    for name in UPSTREAMS:
        wanted = expected(some, "UTC", "7.2.140", books.keyring(), Decimal(7))
        assert differing(found[name], wanted) == {}, name
