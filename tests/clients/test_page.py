"""The demo page in a real browser with a microphone that plays a file."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.clients.conftest import write_wav
from tests.clients.fake import FakeServer, ramp
from tests.export.tiny import waves

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
AUDIO = np.concatenate([np.zeros(16_000, np.float32), waves(4.0)[0]])  # the recorder of a browser needs a moment to begin


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium whose microphone plays AUDIO, once."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no chromium: apt-get install chromium")
    path = write_wav(tmp_path_factory.mktemp("microphone") / "said.wav", AUDIO)
    arguments = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={path}%noloop",
                 "--autoplay-policy=no-user-gesture-required", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=found, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, replica):
    """The page, which loads nothing from elsewhere and complains of nothing."""
    page = browser.new_page()
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(replica.url.replace("ws", "http", 1))
    page.set_default_timeout(30_000)
    yield page
    own = replica.url.split("//")[1]
    assert all(url.split("/")[2] == own or url.startswith("data:") for url in asked), asked
    assert complaints == []
    page.close()


def texts(page):
    """What stands there as final, without the times."""
    return page.eval_on_selector_all(".utterance", "all => all.map(p => [...p.children].map(w => w.firstChild.data).join(' '))")


def test_the_microphone_with_push_to_talk(page):
    page.check("#push")
    page.click("#microphone")
    page.wait_for_selector("#talk:enabled")
    page.hover("#talk")
    page.mouse.down()
    playwright.expect(page.locator("#partial")).to_have_text(re.compile("...."), timeout=30_000)
    partial = page.text_content("#partial")
    page.mouse.up()
    page.wait_for_selector(".utterance .word")
    (text,) = texts(page)
    assert text.startswith(partial[:2]) and page.text_content("#partial") == ""
    word = page.query_selector(".word")
    assert "confidence" in word.get_attribute("title") and word.get_attribute("data-shade") in "01234"
    assert float(word.query_selector("small").text_content()) >= 0
    if folder := os.environ.get("VOXKIT_SCREENSHOTS"):  # for whoever wants to see it
        page.screenshot(path=str(Path(folder) / "microphone.png"))
    page.click("#stop")
    playwright.expect(page.locator("#status")).to_have_text("done", timeout=30_000)
    assert page.is_enabled("#microphone")


def test_a_file_gives_the_text_of_the_other_clients(page, replica, tmp_path):
    from voxkit.client import ListenOptions
    from voxkit.client.files import transcribe

    path = write_wav(tmp_path / "order.wav", waves(3.0)[0])
    page.fill("#phrases", "hold the line\n\n  enemy landing  ")
    page.check("#fast")
    page.eval_on_selector("#endpointing", "input => { input.min = 0; input.value = 0; }")
    page.set_input_files("#file", path)
    playwright.expect(page.locator("#status")).to_have_text("done", timeout=30_000)
    (expected,) = transcribe(path, ListenOptions(replica.url, endpointing=None, phrases=["hold the line", "enemy landing"]))
    assert texts(page) == [" ".join(word.word for word in expected.words)] and expected.text
    page.click("#clear")
    assert texts(page) == []


def test_refusals_are_shown_and_the_page_goes_on(browser, replica, tmp_path):
    """The page of one server against another, which wants what the page cannot give."""
    page = browser.new_page()
    page.goto(replica.url.replace("ws", "http", 1))
    path = write_wav(tmp_path / "ramp.wav", ramp(1.0))
    page.fill("#phrases", "x" * 200)
    page.set_input_files("#file", path)
    page.wait_for_selector("#status.bad")
    assert "4400" in page.text_content("#status") and page.is_enabled("#file")
    page.fill("#phrases", "")
    page.check("#fast")
    page.set_input_files("#file", path)
    playwright.expect(page.locator("#status")).to_have_text("done", timeout=30_000)
    page.close()


def test_the_module_runs_in_a_browser_as_in_node(browser, replica):
    """Against the server of which every word is known, with a token, which a browser can only send as a subprotocol."""
    page = browser.new_page()
    page.goto(replica.url.replace("ws", "http", 1))
    with FakeServer() as server:
        words = page.evaluate("""async (url) => {
            const { Stream } = await import("/static/voxkit.js");
            const words = [];
            const stream = new Stream({ url, token: "s3cret" }, (e) => { if (e.final) words.push(...e.words.map((w) => w.word)); });
            await stream.send(Float32Array.from({ length: 40000 }, (_, i) => Math.floor(i / 1600) / 32768));
            await stream.finish();
            return words;
        }""", server.url)
    assert words == [str(n) for n in range(25)] and server.seen[0].subprotocols == "token, s3cret"
    page.close()
