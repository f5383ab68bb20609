"""The pages over a real socket, as a browser without scripts would use them."""

from __future__ import annotations

import contextlib
import io
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image
from tests.cloud.world import BUNDLE, digits, manifest, sample

from skerry_cloud.config import LabelConfig
from skerry_cloud.errors import DataError
from skerry_cloud.labels.jobs import State
from skerry_cloud.pipelines.engine import Log
from skerry_cloud.services import Services, open_services
from skerry_cloud.web.images import to_png
from skerry_cloud.web.pages import build

ITEMS = [f"cam-1/00000001-0a0b0c0d/{i}" for i in range(3)]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    opened = open_services(tmp_path, writer=True)
    images = digits().stream_x
    opened.lake.append_samples([("cam-1", sample(i, images[i])) for i in range(3)])
    opened.registry.add_bundle(BUNDLE, manifest())
    opened.jobs.create("digits-1-labels", "digits", ["0", "1", "<b>"], LabelConfig())
    opened.jobs.add("digits-1-labels", 0, [(each, "train") for each in ITEMS])
    Log(opened.database, opened.now).create("digits-1", "digits", {"kind": "alarm", "monitor": "data-drift"})
    yield opened
    opened.close()


@pytest.fixture
def browser(services: Services) -> Iterator[httpx.Client]:
    app = build(services, Log(services.database, services.now))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not (server.started and server.servers):
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with contextlib.closing(httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True)) as client:
        yield client
    server.should_exit = True
    thread.join(10)


def test_every_page_stands_and_loads_nothing_from_elsewhere(browser: httpx.Client) -> None:
    pages = ["/", "/label", "/pipelines", "/pipelines/digits-1", "/registry", f"/lineage?prediction={ITEMS[0]}"]
    for path in [*pages, "/lineage", "/label/digits-1-labels", "/label/digits-1-labels?worker=ann"]:
        answer = browser.get(path)
        assert answer.status_code == 200, path
        assert '<html lang="en">' in answer.text and "<title>" in answer.text
        linked = re.findall(r'(?:src|href|action)="([^"]+)"', answer.text)
        assert all(each.startswith("/") for each in linked), linked
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        for each in {each for each in linked if each.startswith(("/static", "/image"))}:
            assert browser.get(each).status_code == 200, each
    assert browser.get("/healthz").json() == {"status": "ok"}


def test_a_person_labels_by_name_and_by_new_class(browser: httpx.Client, services: Services) -> None:
    job = "/label/digits-1-labels"
    page = browser.get(job, params={"worker": "ann"}).text
    assert "&lt;b&gt;" in page and "<b>" not in page and 'data-key="0"' in page
    for label in ({"label": "1"}, {"new_label": "9"}, {"label": "?"}):
        found = re.search(r'name="prediction" value="([^"]+)"', page)
        assert found is not None
        page = browser.post(job, data={"worker": "ann", "prediction": found[1], **label}).text
    assert "Nothing waits for you" in page
    assert services.jobs.consolidate("digits-1-labels")
    assert sorted(label for _, label, _ in services.jobs.labelled("digits-1-labels")) == ["1", "9"]
    services.jobs.close("digits-1-labels")
    assert services.jobs.get("digits-1-labels").state is State.DONE
    assert "closed" in browser.get(job, params={"worker": "ann"}).text
    refused = browser.post(job, data={"worker": "ann", "prediction": ITEMS[0], "label": "1"})
    assert refused.status_code == 409 and "closed" in refused.text


def test_a_form_from_another_site_is_refused(browser: httpx.Client, services: Services) -> None:
    form = {"worker": "ann", "prediction": ITEMS[0], "label": "1"}
    answer = browser.post("/label/digits-1-labels", data=form, headers={"origin": "http://elsewhere.example"})
    assert answer.status_code == 403 and services.jobs.ledger("digits-1-labels")["votes"] == 0


def test_a_pipeline_is_approved_on_its_page(browser: httpx.Client, services: Services) -> None:
    assert browser.post("/pipelines/digits-1/approve", data={"by": "ann"}).status_code == 200
    assert Log(services.database, services.now).get("digits-1").approved_by == "ann"


@pytest.mark.parametrize("path", ["/label/none", "/pipelines/none", "/image/cam-1/00000001-0a0b0c0d/99"])
def test_what_is_not_there_is_a_page_that_says_so(browser: httpx.Client, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 404 and "did not work" in answer.text


@pytest.mark.parametrize("shape", [(64,), (8, 8), (1, 8, 8), (8, 8, 3), (3, 8, 8), (12,)])
def test_inputs_become_pictures(shape: tuple[int, ...]) -> None:
    x = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    picture = Image.open(io.BytesIO(to_png(x, (3, 4))))
    assert max(picture.size) >= 256 and picture.getextrema()


def test_pictures_keep_their_pixels_and_other_shapes_are_refused() -> None:
    picture = Image.open(io.BytesIO(to_png(np.eye(8, dtype=np.float32).reshape(-1))))
    assert picture.getpixel((1, 1)) == 255 and picture.getpixel((40, 1)) == 0
    wide = Image.open(io.BytesIO(to_png(np.array([[-5.0, 5.0]]))))
    assert wide.getextrema() == (0, 255)
    with pytest.raises(DataError, match="no picture"):
        to_png(np.zeros(7))
