"""scenelab app in a real browser: pictures go in, answers come out, and nothing leaves this machine."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from email.message import Message
from http.client import HTTPConnection
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from conftest import make_untrained
from scenelab.cli import main
from scenelab.runs.loading import open_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (Debian: apt install chromium)")
PATIENCE = 60_000  # milliseconds


GUARDED = Path(__file__).parents[1] / "programs" / "guarded_command.py"


@pytest.fixture(scope="module")
def address(untrained, scenes, tmp_path_factory):
    """The explorer of two networks, as a person starts it; the server may not go beyond loopback itself."""
    other = make_untrained(tmp_path_factory.mktemp("other") / "other", scenes, seed=1)
    notes, errors = other.folder / "outside.txt", other.folder / "stderr.txt"
    command = [sys.executable, GUARDED, notes, "app", untrained.folder, other.folder, "--port", "0"]
    with open(errors, "w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    line = server.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line + errors.read_text()
    folders = set(Path(tempfile.gettempdir()).glob("scenelab-app-*"))
    yield found[0]
    server.terminate()
    server.wait(30)
    server.stdout.close()
    assert not notes.exists(), notes.read_text()
    assert "Traceback" not in errors.read_text()
    assert len(set(Path(tempfile.gettempdir()).glob("scenelab-app-*"))) < len(folders)  # uploads are gone


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
    assert [url for url in asked if not url.startswith((f"{address}/", "data:", "blob:"))] == []
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
    shows = "([name, known]) => known.some(word => document.getElementById(name)?.innerText.includes(word))"
    page.wait_for_function(shows, arg=[name, categories], timeout=PATIENCE)
    return [line for line in page.locator(f"#{name}").inner_text().splitlines() if line.strip() in categories]


def open_page(browser, address: str, **options):
    page = browser.new_context(**options).new_page()
    page.goto(address)
    page.wait_for_selector("#picture")
    return page


@pytest.fixture(scope="module")
def categories(untrained) -> list[str]:
    return list(open_run(untrained.folder).dataset.categories)


@needs_browser
def test_an_image_gets_its_top_five_a_map_and_an_attack(page, photo, categories, untrained, capsys):
    upload(page, photo)
    before = top(page, "left-top", categories)
    assert main.run(["predict", str(untrained.folder), str(photo)]) == 0
    assert before[0] == re.findall(r"% +(\S+)", capsys.readouterr().out)[0]
    assert top(page, "right-top", categories)

    page.get_by_role("tab", name="Attribution").click()
    first = page.locator("#left-map img")
    first.wait_for(timeout=PATIENCE)
    source = first.get_attribute("src")
    page.locator("#method input").click()
    page.get_by_role("option", name="occlusion").click()
    is_other = "source => document.querySelector('#left-map img')?.src.endsWith(source) === false"
    page.wait_for_function(is_other, arg=source, timeout=PATIENCE)

    start_attack(page, epsilon=8)
    assert "The attack succeeded." in wait_for(page, "right-result", "→")
    assert top(page, "left-after", categories)[0] != before[0]
    assert page.locator("#left-adversarial img").count() == 1


def start_attack(page, kind: str = "", **settings: float) -> None:
    page.get_by_role("tab", name="Attack").click()
    if kind:
        page.get_by_role("combobox", name="attack").click()
        page.get_by_role("option", name=kind).click()
    for name, value in settings.items():
        page.locator(f"#{name} input[type=number]").fill(str(value))
    page.get_by_role("button", name="Attack", exact=True).click()


@pytest.fixture
def attacked(page, photo, categories):
    """A page on which a long attack runs."""
    upload(page, photo)
    top(page, "left-top", categories)
    start_attack(page, "Square", steps=100, epsilon=0)
    wait_for(page, "left-result", "forward passes")
    return page


@needs_browser
def test_an_attack_is_stopped(attacked):
    attacked.get_by_role("button", name="Stop", exact=True).click()
    wait_for(attacked, "left-result", "Stopped.")
    attacked.wait_for_timeout(1500)
    assert attacked.locator("#left-result").inner_text().strip() == "Stopped."


@needs_browser
def test_what_is_no_image_gets_a_message_and_the_page_goes_on(page, photo, categories, tmp_path):
    """Of the three one is longer than the server takes."""
    upload(page, photo)
    top(page, "left-top", categories)
    garbage, bomb, large = tmp_path / "garbage.jpg", tmp_path / "bomb.png", tmp_path / "large.jpg"
    garbage.write_bytes(b"no image at all")
    Image.new("1", (12_000, 12_000)).save(bomb)
    large.write_bytes(bytes(25 * 2**20))
    for path, message in ((garbage, "garbage.jpg is not an image file"), (bomb, "at most 100,000,000 pixels")):
        page.locator("#picture").get_by_label("Remove Image").click()
        upload(page, path)
        wait_for(page, "message", message)
        assert not any(name in page.locator("#left-top").inner_text() for name in categories)  # nothing stale
    page.locator("#picture").get_by_label("Remove Image").click()
    upload(page, photo)
    assert top(page, "left-top", categories)
    page.locator("#picture").get_by_label("Remove Image").click()
    upload(page, large)
    refusal = page.get_by_text(re.compile("maximum.*size|exceeds|too large|error", re.IGNORECASE))
    refusal.first.wait_for(timeout=PATIENCE)


@needs_browser
def test_validation_images_and_mistakes_are_shown(page, categories):
    page.get_by_role("button", name="Show a validation image").click()
    assert categories[0] in wait_for(page, "truth", "A val image of")
    assert top(page, "left-top", categories)
    page.get_by_role("tab", name="Mistakes").click()
    page.locator(".gallery-item button, button.thumbnail-item").first.click()
    wait_for(page, "truth", re.compile("A val image of"))


@needs_browser
def test_two_visitors_at_once_get_their_own_answers(browser, address, scenes, untrained, categories, capsys):
    photos = sorted((scenes / "images" / "val").rglob("*.jpg"))[3:5]
    pages = [open_page(browser, address) for _ in photos]
    for one, path in zip(pages, photos, strict=True):
        upload(one, path)
    assert main.run(["predict", str(untrained.folder), *map(str, photos), "--json"]) == 0
    for one, entry in zip(pages, json.loads(capsys.readouterr().out), strict=True):
        expected = [guess["category"] for guess in entry["guesses"]]
        assert top(one, "left-top", categories)[1:6] == expected
        one.context.close()


@needs_browser
def test_the_page_fits_a_phone(browser, address):
    page = open_page(browser, address, viewport={"width": 390, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()


FILES = "/etc/passwd ../../../../etc/passwd ..%2f..%2f..%2fetc%2fpasswd file:///etc/passwd http://192.0.2.1/".split()
ROUTES = "/gradio_api/file= /gradio_api/file/ /gradio_api/proxy= /file= /static/ /assets/ /".split()


def test_the_server_gives_no_files_away_and_answers_no_other_page(address, untrained, scenes):
    """Neither the machine's, nor the project's, nor the run's, however the path is written; and it fetches nothing."""

    def ask(path: str, body: bytes | None = None, **headers: str) -> tuple[int, Message, bytes]:
        with closing(HTTPConnection(address.removeprefix("http://"), timeout=20)) as connection:
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    for path, route in product([*FILES, str(untrained.config), str(scenes / "val.txt")], ROUTES):
        status, _, content = ask(route + path)
        assert not any(part in content for part in (b"root:", b"stored_size")), (route, path)
        assert status in (400, 403, 404), (route, path)
    for path in (str(untrained.config), "http://192.0.2.1/x.png"):
        body = {"data": [{"path": path}, "untrained"], "fn_index": 0, "session_hash": "abc"}
        assert ask("/gradio_api/queue/join", json.dumps(body).encode())[0] == 403
    assert ask("/", Host="evil.example")[0] == 400
    assert ask("/gradio_api/upload", b"x", Origin="http://evil.example")[0] == 403
    status, headers, _ = ask("/", Origin=address)
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]


@needs_browser
def test_another_image_ends_the_attack_on_the_one_before(attacked, scenes):
    upload(attacked, sorted((scenes / "images" / "val").rglob("*.jpg"))[1])
    attacked.wait_for_timeout(3000)
    assert attacked.locator("#left-result").inner_text().strip() == ""
    assert attacked.locator("#left-adversarial img").count() == 0


@needs_browser
def test_a_second_attack_takes_the_place_of_the_first(attacked):
    start_attack(attacked, "one step", epsilon=8)
    assert "FGSM (one step), ε = 8/255" in wait_for(attacked, "right-result", "→")


@needs_browser
def test_the_keyboard_is_enough(page, photo, categories):
    """The tabs and the buttons are reached by Tab, Enter and arrows, and what has the focus can be seen."""
    upload(page, photo)
    top(page, "left-top", categories)
    page.get_by_role("tab", name="Attack").focus()
    page.keyboard.press("Enter")
    page.get_by_label("steps").first.wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Attack":
            break
    assert page.evaluate("document.activeElement.innerText") == "Attack"
    page.keyboard.press("Enter")
    assert "→" in wait_for(page, "right-result", "→")


def test_wrong_arguments_are_refused(untrained, tmp_path, capsys, address):
    run, port = str(untrained.folder), address.rpartition(":")[2]
    for arguments, message in (
        ([str(tmp_path)], "is not a run folder"),
        ([run, run], "same name"),
        ([run, "--port", "70000"], "choose another --port"),
        ([run, "--port", port], "choose another --port"),
        ([run, "--host", "::1"], "a --host of this machine"),
    ):
        assert main.run(["app", *arguments]) == 1
        assert message in capsys.readouterr().err
