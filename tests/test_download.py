"""Price lists fetched from a web server."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support import QUICK, calls, proxy, said, wait_until

from worker.pricing import dataset


def model(name, usd):
    return {"id": name, "match": {"equals": name}, "prices": {"input_mtok": usd, "output_mtok": 10}}


def lists(usd):
    """Price lists as genai-prices publishes them."""
    models = [model("acme-1", usd), model("acme-2", 3)]
    return json.dumps([{"id": "acme", "name": "Acme", "api_pattern": "https://acme", "models": models}]).encode()


URL, EVERY = "WORKER__PRICES__DOWNLOAD_URL", "WORKER__PRICES__DOWNLOAD_S"
FROM_A_DATASET = "SELECT count(*) FROM usage_api.v1_prices WHERE source = 'dataset'"


class Shop:
    """A web server with one page."""

    def __init__(self):
        shop = self
        self.page, self.status = lists(1.25), 200

        class Page(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(shop.status)
                self.send_header("Content-Length", str(len(shop.page)))
                self.end_headers()
                self.wfile.write(shop.page)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.url = f"http://127.0.0.1:{self.server.server_port}/lists.json"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def shop():
    found = Shop()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_a_download_enters_what_is_new_and_ends_what_changed(books, shop):
    first = books.worker(None, "prices", "sync", "--download", "--json", **{URL: shop.url})
    assert (first.code, first.json["added"]) == (0, 2 + len(dataset.PER_IMAGE_USD)), first.stderr
    assert "downloaded" in first.json["dataset"]
    shop.page = lists(1.5)
    second = books.worker(None, "prices", "sync", "--download", "--json", **{URL: shop.url})
    assert (second.json["added"], second.json["changed"], second.json["unchanged"]) == (
        0,
        1,
        1 + len(dataset.PER_IMAGE_USD),
    )


@pytest.mark.parametrize(("status", "page"), [(404, b"nothing here"), (200, b"<html>"), (200, b"[1, 2]")])
def test_what_is_no_price_list_is_said_and_changes_nothing(books, shop, status, page):
    shop.status, shop.page = status, page
    finished = books.worker(None, "prices", "sync", "--download", **{URL: shop.url})
    assert (finished.code, "Traceback" in finished.stderr) == (1, False)
    assert f"no price lists from {shop.url}" in finished.stderr
    assert books.ask(FROM_A_DATASET) == [(0,)]


def test_the_service_fetches_them_and_goes_on_where_it_cannot(books, shop):
    shop.status = 503
    environment = {**QUICK, URL: shop.url, EVERY: "1", "WORKER__PRICES__DATASET": "true"}
    with proxy("queue", calls(10)) as simulator, books.starting(simulator, "run", **environment) as process:
        wait_until(lambda: '"prices.not_downloaded"' in said(process), "it says that it cannot")
        shop.status = 200
        wait_until(lambda: "downloaded 20" in said(process), "it has fetched them")
        assert ("acme-2",) in books.ask("SELECT model FROM usage_api.v1_prices")
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait().code == 0
