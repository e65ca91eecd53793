"""scenelab app in a real browser: pictures go in, answers come out, and nothing leaves this machine."""

import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from conftest import make_untrained
from scenelab.cli import app
from scenelab.training.opened import open_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (Debian: apt install chromium)")
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def address(untrained, scenes, tmp_path_factory):
    """The explorer of two networks, as a person starts it."""
    other = make_untrained(tmp_path_factory.mktemp("other") / "other", scenes, seed=1)
    command = [sys.executable, "-c", "from scenelab.cli import main; main()", "app", str(untrained.folder)]
    server = subprocess.Popen(
        [*command, str(other.folder), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout
    assert server.stderr
    line = server.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line + server.stderr.read()
    yield found[0]
    server.terminate()
    server.wait(30)
    server.stdout.close()
    server.stderr.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        found = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser, address):
    """A page of its own, of which every request is written down; one that leaves loopback is a failure."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    asked, complaints = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(address)
    opened.wait_for_selector("#picture")
    yield opened
    context.close()
    assert len(asked) > 3
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert complaints == []


@pytest.fixture(scope="module")
def photo(scenes) -> Path:
    return sorted((scenes / "images" / "val").rglob("*.jpg"))[0]


def upload(page, path) -> None:
    page.set_input_files("#picture input[type=file]", str(path))


def wait_for(page, name: str, text: str | re.Pattern) -> str:
    place = page.locator(f"#{name}").filter(has_text=text)
    place.first.wait_for(timeout=PATIENCE)
    return place.first.inner_text()


def top(page, name: str, categories) -> list[str]:
    page.wait_for_function(
        "([name, known]) => known.some(word => document.getElementById(name)?.innerText.includes(word))",
        arg=[name, categories], timeout=PATIENCE,
    )  # fmt: skip
    return [line for line in page.locator(f"#{name}").inner_text().splitlines() if line.strip() in categories]


@pytest.fixture(scope="module")
def categories(untrained) -> list[str]:
    return list(open_run(untrained.folder).packed.categories)


@needs_browser
def test_a_picture_gets_its_top_five_a_map_and_an_attack(page, photo, categories, untrained, capsys):
    upload(page, photo)
    shown = top(page, "left-top", categories)
    assert app.run(["predict", str(untrained.folder), str(photo)]) == 0
    said = re.findall(r"% +(\S+)", capsys.readouterr().out)
    assert shown[0] == said[0]
    assert top(page, "right-top", categories)

    page.get_by_role("tab", name="Where it looks").click()
    first = page.locator("#left-map img")
    first.wait_for(timeout=PATIENCE)
    before = first.get_attribute("src")
    page.locator("#method input").click()
    page.get_by_role("option", name="occlusion").click()
    page.wait_for_function(
        "before => document.querySelector('#left-map img')?.src.endsWith(before) === false", arg=before,
        timeout=PATIENCE,
    )  # fmt: skip

    page.get_by_role("tab", name="What fools it").click()
    page.locator("#epsilon input[type=number]").fill("8")
    page.get_by_role("button", name="Attack", exact=True).click()
    told = wait_for(page, "right-told", "→")
    assert "Fooled." in told
    assert top(page, "left-after", categories)[0] != shown[0]
    assert page.locator("#left-adversarial img").count() == 1


@needs_browser
def test_an_attack_is_stopped(page, photo, categories):
    upload(page, photo)
    top(page, "left-top", categories)
    page.get_by_role("tab", name="What fools it").click()
    page.locator("#steps input[type=number]").fill("100")
    page.locator("#epsilon input[type=number]").fill("0.5")
    page.get_by_role("combobox", name="attack").click()
    page.get_by_role("option", name="Square").click()
    page.get_by_role("button", name="Attack", exact=True).click()
    wait_for(page, "left-told", "passes through")
    page.get_by_role("button", name="Stop", exact=True).click()
    wait_for(page, "left-told", "Stopped.")


@needs_browser
def test_garbage_and_bombs_get_a_message_and_the_page_goes_on(page, photo, categories, tmp_path):
    upload(page, photo)
    top(page, "left-top", categories)
    garbage, bomb = tmp_path / "garbage.jpg", tmp_path / "bomb.png"
    garbage.write_bytes(b"no picture at all")
    Image.new("1", (12_000, 12_000)).save(bomb)
    for path, message in ((garbage, "garbage.jpg is not an image file"), (bomb, "at most 100,000,000 pixels")):
        page.locator("#picture").get_by_label("Remove Image").click()
        upload(page, path)
        wait_for(page, "message", message)
        assert not any(name in page.locator("#left-top").inner_text() for name in categories)  # nothing stale
    page.locator("#picture").get_by_label("Remove Image").click()
    upload(page, photo)
    assert top(page, "left-top", categories)


@needs_browser
def test_validation_images_and_mistakes(page, categories):
    page.get_by_role("button", name="Show one").click()
    assert categories[0] in wait_for(page, "truth", "A val image of")
    assert top(page, "left-top", categories)
    page.get_by_role("tab", name="Its mistakes").click()
    page.locator(".gallery-item button, button.thumbnail-item").first.click()
    wait_for(page, "truth", re.compile("A val image of"))


@needs_browser
def test_two_people_at_once(browser, address, photo, categories):
    pages = [browser.new_context().new_page() for _ in range(2)]
    for one in pages:
        one.goto(address)
        one.wait_for_selector("#picture")
    for one in pages:
        upload(one, photo)
    assert len({tuple(top(one, "left-top", categories)) for one in pages}) == 1
    for one in pages:
        one.context.close()


@needs_browser
def test_it_fits_a_phone(browser, address):
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#picture")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def ask(address: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address + path, headers=headers), timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_the_server_gives_no_files_away(address, untrained, scenes):
    """Neither the machine's, nor the project's, nor the run's, however the path is written."""
    for path in (
        "/etc/passwd", "/proc/self/environ", str(untrained.config), str(scenes / "val.txt"), "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/",
    ):  # fmt: skip
        for door in ("/gradio_api/file=", "/file=", "/static/", "/assets/", "/"):
            status, _, body = ask(address, door + path)
            assert b"root:" not in body, (door, path)
            assert b"stored_size" not in body, (door, path)
            assert status in (200, 400, 403, 404, 405, 422), (door, path)
            if door == "/gradio_api/file=":
                assert status in (400, 403, 404), (door, path)


def test_other_hosts_and_origins_are_refused(address):
    assert ask(address, "/")[0] == 200
    assert ask(address, "/", Host="evil.example")[0] == 400
    _, headers, _ = ask(address, "/", Origin="http://evil.example")
    named = {name.lower(): value for name, value in headers.items()}
    assert named.get("access-control-allow-origin") in (None, address)
    assert "default-src 'self'" in named["content-security-policy"]
    assert "frame-ancestors 'none'" in named["content-security-policy"]


def test_errors(untrained, scenes, tmp_path, capsys, address):
    assert app.run(["app", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err
    assert app.run(["app", str(untrained.folder), str(untrained.folder)]) == 1
    assert "same name" in capsys.readouterr().err
