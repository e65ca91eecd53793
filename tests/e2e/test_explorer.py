"""scenelab app in a real browser: pictures go in, answers come out, and nothing leaves this machine."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
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


GUARDED = """
import ipaddress, socket, sys
def note(address):
    host = address[0] if isinstance(address, tuple) else None
    if host is None or host == "localhost":
        return
    try:
        outside = not ipaddress.ip_address(host).is_loopback
    except ValueError:
        outside = True
    if outside:
        open({path!r}, "a").write(f"{{address}}\\n")
connect, look_up = socket.socket.connect, socket.getaddrinfo
def guarded(self, address):
    note(address)
    return connect(self, address)
def looked_up(host, *rest, **options):
    note((host.decode() if isinstance(host, bytes) else host,))
    return look_up(host, *rest, **options)
socket.socket.connect, socket.getaddrinfo = guarded, looked_up
from scenelab.cli import entry_point
entry_point()
"""
"""The command line in a process that writes down every address beyond loopback that it asks for or connects to."""


@pytest.fixture(scope="module")
def address(untrained, scenes, tmp_path_factory):
    """The explorer of two networks, as a person starts it; the server may not go beyond loopback itself."""
    other = make_untrained(tmp_path_factory.mktemp("other") / "other", scenes, seed=1)
    notes, errors = other.folder / "outside.txt", other.folder / "stderr.txt"
    command = [sys.executable, "-c", GUARDED.format(path=str(notes)), "app", str(untrained.folder), str(other.folder)]
    with open(errors, "w") as log:
        server = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, stderr=log, text=True)
    assert server.stdout
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
    page.wait_for_function(
        "([name, known]) => known.some(word => document.getElementById(name)?.innerText.includes(word))",
        arg=[name, categories], timeout=PATIENCE,
    )  # fmt: skip
    return [line for line in page.locator(f"#{name}").inner_text().splitlines() if line.strip() in categories]


@pytest.fixture(scope="module")
def categories(untrained) -> list[str]:
    return list(open_run(untrained.folder).dataset.categories)


@needs_browser
def test_a_picture_gets_its_top_five_a_map_and_an_attack(page, photo, categories, untrained, capsys):
    upload(page, photo)
    shown = top(page, "left-top", categories)
    assert main.run(["predict", str(untrained.folder), str(photo)]) == 0
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


def begin_a_long_attack(page) -> None:
    page.get_by_role("tab", name="What fools it").click()
    page.get_by_role("combobox", name="attack").click()
    page.get_by_role("option", name="Square").click()
    page.locator("#steps input[type=number]").fill("100")
    page.locator("#epsilon input[type=number]").fill("0")
    page.get_by_role("button", name="Attack", exact=True).click()
    wait_for(page, "left-told", "passes through")


@needs_browser
def test_an_attack_is_stopped(page, photo, categories):
    upload(page, photo)
    top(page, "left-top", categories)
    begin_a_long_attack(page)
    page.get_by_role("button", name="Stop", exact=True).click()
    wait_for(page, "left-told", "Stopped.")
    page.wait_for_timeout(1500)
    assert page.locator("#left-told").inner_text().strip() == "Stopped."


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
def test_two_people_at_once(browser, address, scenes, untrained, categories, capsys):
    """Each gets the answer to their own picture."""
    photos = sorted((scenes / "images" / "val").rglob("*.jpg"))[3:5]
    pages = [browser.new_context().new_page() for _ in photos]
    for one in pages:
        one.goto(address)
        one.wait_for_selector("#picture")
    for one, path in zip(pages, photos, strict=True):
        upload(one, path)
    assert main.run(["predict", str(untrained.folder), *map(str, photos), "--json"]) == 0
    for one, entry in zip(pages, json.loads(capsys.readouterr().out), strict=True):
        expected = [guess["category"] for guess in entry["guesses"]]
        assert top(one, "left-top", categories)[1:6] == expected
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


def ask(address: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    try:
        request = urllib.request.Request(address + path, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_the_server_gives_no_files_away(address, untrained, scenes):
    """Neither the machine's, nor the project's, nor the run's, however the path is written; and it fetches nothing."""
    for path in (
        "/etc/passwd", "/proc/self/environ", str(untrained.config), str(scenes / "val.txt"), "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "file:///etc/passwd", "http://192.0.2.1/",
    ):  # fmt: skip
        for door in (
            "/gradio_api/file=",
            "/gradio_api/file/",
            "/gradio_api/proxy=",
            "/file=",
            "/static/",
            "/assets/",
            "/",
        ):
            status, _, body = ask(address, door + path)
            assert b"root:" not in body, (door, path)
            assert b"stored_size" not in body, (door, path)
            assert status in (400, 403, 404), (door, path)


def test_the_server_reads_no_file_that_a_question_names(address, scenes):
    picture = str(sorted((scenes / "images" / "val").rglob("*.jpg"))[0])
    for path in (picture, "http://192.0.2.1/x.png"):
        for extra in ({}, {"meta": {"_type": "gradio.FileData"}}):
            question = {"data": [{"path": path, **extra}, "untrained"], "fn_index": 0, "session_hash": "abc"}
            assert ask(address, "/gradio_api/queue/join", json.dumps(question).encode())[0] == 403


def test_other_hosts_and_origins_are_refused(address):
    assert ask(address, "/")[0] == 200
    assert ask(address, "/", Host="evil.example")[0] == 400
    assert ask(address, "/gradio_api/upload", b"x", Origin="http://evil.example")[0] == 403
    _, headers, _ = ask(address, "/", Origin=address)
    named = {name.lower(): value for name, value in headers.items()}
    assert "default-src 'self'" in named["content-security-policy"]
    assert "frame-ancestors 'none'" in named["content-security-policy"]


@needs_browser
def test_too_large_a_file_gets_a_message(page, tmp_path):
    path = tmp_path / "large.jpg"
    path.write_bytes(bytes(25 * 2**20))
    upload(page, path)
    page.get_by_text(re.compile("maximum.*size|exceeds|too large|error", re.IGNORECASE)).first.wait_for(
        timeout=PATIENCE
    )


@needs_browser
def test_another_picture_ends_the_attack_on_the_one_before(page, scenes, categories):
    first, second = sorted((scenes / "images" / "val").rglob("*.jpg"))[:2]
    upload(page, first)
    top(page, "left-top", categories)
    begin_a_long_attack(page)
    upload(page, second)
    page.wait_for_timeout(3000)
    assert page.locator("#left-told").inner_text().strip() == ""
    assert page.locator("#left-adversarial img").count() == 0


@needs_browser
def test_a_second_attack_takes_the_place_of_the_first(page, photo, categories):
    upload(page, photo)
    top(page, "left-top", categories)
    begin_a_long_attack(page)
    page.get_by_role("combobox", name="attack").click()
    page.get_by_role("option", name="one step").click()
    page.locator("#epsilon input[type=number]").fill("8")
    page.get_by_role("button", name="Attack", exact=True).click()
    assert "one step (FGSM), ε = 8/255" in wait_for(page, "right-told", "→")


@needs_browser
def test_with_the_keyboard_alone(page, photo, categories):
    """The tabs and the buttons are reached by Tab, Enter and arrows, and what has the focus can be seen."""
    upload(page, photo)
    top(page, "left-top", categories)
    page.get_by_role("tab", name="What fools it").focus()
    page.keyboard.press("Enter")
    page.get_by_label("steps").first.wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Attack":
            break
    assert page.evaluate("document.activeElement.innerText") == "Attack"
    page.keyboard.press("Enter")
    assert "→" in wait_for(page, "right-told", "→")


def test_errors(untrained, scenes, tmp_path, capsys, address):
    assert main.run(["app", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err
    assert main.run(["app", str(untrained.folder), str(untrained.folder)]) == 1
    assert "same name" in capsys.readouterr().err
    for port, message in (("70000", "--port is 70000"), (address.rpartition(":")[2], "choose another --port")):
        assert main.run(["app", str(untrained.folder), "--port", port]) == 1
        assert message in capsys.readouterr().err
    assert main.run(["app", str(untrained.folder), "--host", "::1"]) == 1
    assert "a --host of this machine" in capsys.readouterr().err
