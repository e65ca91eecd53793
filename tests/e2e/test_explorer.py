"""scenelab app in a real browser: images go in, answers come out, and nothing leaves this machine."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests
import torch
from PIL import Image

from conftest import make_untrained
from explorer import exploring
from folders import wait_for
from scenelab.cli import main
from scenelab.data.contact_sheet import write_contact_sheet
from scenelab.runs.loading import open_run
from scenelab.runs.run import Run
from shipping import ship

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (Debian: apt install chromium)")
PATIENCE = 60_000  # milliseconds
GUARDED = Path(__file__).parents[1] / "programs" / "guarded_command.py"
VIEWS = "watch predict explain attack look convolve mistakes compare".split()


def start(folder: Path, *arguments: object) -> tuple[subprocess.Popen, str, Path]:
    """The explorer as a person starts it; it notes in a file whatever address beyond loopback it asks for."""
    notes = folder / "outside.txt"
    with open(folder / "stderr.txt", "w") as log:
        command = [sys.executable, GUARDED, notes, "app", *arguments, "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    line = server.stdout.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert address, line + (folder / "stderr.txt").read_text()
    return server, address[0], notes


@pytest.fixture(scope="module")
def folder(untrained, scenes, tmp_path_factory) -> Path:
    """A folder of runs: an evaluated one, one that was broken off, and one that is damaged."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(untrained.folder, folder / "untrained")
    make_untrained(folder / "course" / "grüße 你好", scenes, seed=1)
    (folder / "damaged").mkdir()
    (folder / "damaged" / "config.json").write_text("{")
    write_rows(Run(folder / "untrained"), 30)
    assert main.run(["evaluate", str(folder / "course" / "grüße 你好"), "--json"]) == 0
    return folder


def write_rows(run: Run, steps: int) -> None:
    with open(run.metrics, "a") as metrics, open(run.timings, "a") as times:
        for step in range(1, steps + 1):
            metrics.write(json.dumps({"step": step, "training_loss": 3 - step / 100, "learning_rate": 0.1}) + "\n")
            times.write(json.dumps({"step": step, "training_seconds": 2.0 * step}) + "\n")
        row = {"epoch": 1, "step": steps, "split": "val", "loss": 1.5, "top1": 42.0, "top5": 80.0}
        metrics.write(json.dumps({**row, "confused": [["wheat_field", "coast", 7]]}) + "\n")
    write_contact_sheet(torch.rand(32, 3, 16, 16), run.batch)


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    server, address, notes = start(out, folder)
    yield server, address
    children = psutil.Process(server.pid).children(recursive=True)
    server.send_signal(signal.SIGINT)
    assert server.wait(30) == 130
    server.stdout.close()
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() for child in children)
    assert not notes.exists(), notes.read_text()
    assert (out / "stderr.txt").read_text().strip() in ("", "scenelab: stopped")


@pytest.fixture(scope="module")
def address(server) -> str:
    return server[1]


@pytest.fixture(scope="module")
def browser():
    """A browser with a camera that shows a green disk."""
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", *camera])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """A page of its own, of which every request is written down; one that leaves loopback is a failure."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    page = context.new_page()
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert len(asked) > 3
    assert [url for url in asked if not url.startswith((f"{address}/", "data:", f"blob:{address}/"))] == []
    refused = re.compile("status of 40[0-9]|413")  # a refusal that the page shows
    assert [text for text in complaints if not refused.search(text)] == []


def open_view(page, address: str, view: str, **state: str) -> None:
    state = {"view": view, "run": "untrained", "image": "val:0", **state}
    page.goto(f"{address}/#" + "&".join(f"{key}={value}" for key, value in state.items() if value))
    page.reload()
    page.wait_for_selector("nav a[aria-current]")


@pytest.fixture(scope="module")
def photo(scenes) -> Path:
    return sorted((scenes / "images" / "val").rglob("*.jpg"))[0]


@pytest.fixture(scope="module")
def categories(untrained) -> list[str]:
    return [name.replace("_", " ") for name in open_run(untrained.folder).dataset.categories]


def upload(page, path: Path) -> None:
    page.set_input_files("#file", str(path))


def field(page, label: str):
    """What is chosen or set under a label."""
    return page.locator("label", has_text=re.compile(f"^{label}")).locator("select, input")


def guesses(page, title: str = "untrained") -> list[str]:
    card = page.locator(".card", has=page.get_by_role("heading", name=title, exact=True))
    texts: list[str] = []
    while not texts:  # the page may draw the card again after the wait
        card.locator(".bar").first.wait_for(timeout=PATIENCE)
        texts = card.locator(".bar span:first-child").all_inner_texts()
    return texts


def predicted(run: Path, image: Path, capsys) -> list[str]:
    assert main.run(["predict", str(run), str(image), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    return [guess["category"].replace("_", " ") for guess in entry["guesses"]]


def test_runs_are_watched_while_they_train(page, address, folder):
    open_view(page, address, "watch", runs="untrained|")
    rows = page.locator("tbody tr")
    rows.nth(2).wait_for(timeout=PATIENCE)
    text = "\n".join(rows.all_inner_texts())
    assert "42.0" in text
    assert "damaged" in text
    assert "unreadable" in text
    loss = page.locator(".chart", has_text="Loss")
    loss.get_by_text("untrained, val 1.5").wait_for(timeout=PATIENCE)
    page.get_by_text("wheat field → coast: 7").wait_for(timeout=PATIENCE)
    batch = page.get_by_alt_text("the last batch of untrained")
    wait_for(lambda: batch.evaluate("image => image.naturalWidth") == 8 * 16)
    with open(folder / "untrained" / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 31, "training_loss": 0.0625, "learning_rate": 0.1}) + "\n")
    field(page, "Smoothing").fill("0")
    loss.get_by_text("untrained, training 0.0625").wait_for(timeout=PATIENCE)
    field(page, "Axis").select_option("image")
    loss.locator("svg").focus()
    page.keyboard.press("ArrowLeft")
    loss.get_by_text(re.compile("image 7,7..")).wait_for(timeout=PATIENCE)  # 31 steps of 256 images, less 1/50
    page.get_by_label("sort by top-1").click()
    field(page, "Filter").fill("grüße")
    assert rows.count() == 1
    assert "sort=top1" in page.url
    page.get_by_role("checkbox", name=re.compile("show course")).check()
    page.reload()
    page.get_by_role("checkbox", name=re.compile("show course"), checked=True).wait_for(timeout=PATIENCE)


@pytest.mark.parametrize(("kind", "start"), [("CSV", b"series,step,value"), ("SVG", b"<svg"), ("PNG", b"\x89PNG")])
def test_charts_are_downloaded(page, address, kind, start):
    open_view(page, address, "watch", runs="untrained")
    chart = page.locator(".chart", has_text="Loss")
    chart.get_by_text("untrained, val").wait_for(timeout=PATIENCE)
    with page.expect_download() as download:
        chart.get_by_role("button", name=kind).click()
    content = Path(download.value.path()).read_bytes()
    assert content.startswith(start)
    assert kind != "CSV" or b'"untrained, training",1,2.99' in content


def test_a_run_that_vanishes_and_one_that_appears_are_fine(page, address, folder, scenes):
    other = make_untrained(folder / "brief", scenes)
    write_rows(other, 5)
    open_view(page, address, "watch", runs="brief")
    page.locator(".chart", has_text="Loss").get_by_text("brief, training").wait_for(timeout=PATIENCE)
    shutil.rmtree(other.folder)
    page.get_by_role("checkbox", name="show brief").wait_for(state="detached", timeout=PATIENCE)
    assert page.locator("#notice").inner_text() == ""


def test_an_uploaded_image_gets_the_guesses_of_predict_from_two_networks(page, address, folder, photo, capsys):
    open_view(page, address, "predict", image="", other="course/grüße 你好")
    upload(page, photo)
    for run in ("untrained", "course/grüße 你好"):
        assert guesses(page, run) == predicted(folder / run, photo, capsys)
    assert "upload" in page.url
    page.reload()  # the link holds the state
    assert guesses(page) == predicted(folder / "untrained", photo, capsys)
    field(page, "Validation image").select_option("coast")
    page.get_by_role("button", name="Another").click()
    page.get_by_text("a val image of coast").wait_for(timeout=PATIENCE)
    field(page, "Example").select_option("synthetic:desert")
    page.get_by_role("button", name="Show").click()
    page.get_by_text("a synthetic desert").wait_for(timeout=PATIENCE)
    page.go_back()
    page.get_by_text("a val image of coast").wait_for(timeout=PATIENCE)


def test_an_image_is_dropped_and_pasted(page, address, folder, photo, capsys):
    content = list(photo.read_bytes())
    for event, target in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        open_view(page, address, "predict")
        page.locator("#file").wait_for(state="attached")
        page.evaluate(
            """([kind, target, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "photo.jpg", {type: "image/jpeg"}));
                const make = {drop: DragEvent, paste: ClipboardEvent}[kind];
                document.body.dispatchEvent(new make(kind, {[target]: data, bubbles: true, cancelable: true}));
            }""",
            [event, target, content],
        )
        page.get_by_text("photo.jpg").wait_for(timeout=PATIENCE)
        assert guesses(page) == predicted(folder / "untrained", photo, capsys)


def test_the_camera_takes_a_picture(page, address):
    open_view(page, address, "predict")
    page.get_by_role("button", name="Camera").click()
    wait_for(lambda: page.evaluate("document.querySelector('video')?.currentTime > 0"))
    page.evaluate("window.media = document.querySelector('video').srcObject")
    page.get_by_role("button", name="Take the picture").click()
    page.get_by_text("camera.png").wait_for(timeout=PATIENCE)
    assert guesses(page)
    assert "upload" in page.url
    assert page.evaluate("window.media.getTracks().map(track => track.readyState)") == ["ended"]
    page.get_by_role("button", name="Camera").click()
    wait_for(lambda: page.evaluate("document.querySelector('video')?.currentTime > 0"))
    page.evaluate("window.media = document.querySelector('video').srcObject")
    page.get_by_role("link", name="Watch it learn").click()
    wait_for(lambda: page.evaluate("window.media.getTracks().every(track => track.readyState === 'ended')"))


def test_networks_and_images_of_the_package_open_at_once(browser, untrained, photo, tmp_path, monkeypatch):
    networks = {"miniplaces": untrained.folder, "miniplaces-hardened": untrained.folder}
    ship(monkeypatch, tmp_path / "package", networks, Path(shutil.copy(photo, tmp_path / "beach.jpg")))
    page = browser.new_page()
    with exploring() as client:
        page.goto(f"{client.address}/#view=predict")
        page.get_by_text("example image: beach").wait_for(timeout=PATIENCE)
        assert guesses(page, "miniplaces") == guesses(page, "miniplaces-hardened")
        page.get_by_role("link", name="What fools it").click()
        page.get_by_role("button", name="Attack", exact=True).click()
        page.get_by_text("→").nth(1).wait_for(timeout=PATIENCE)
        page.get_by_role("link", name="Watch it learn").click()
        page.get_by_text("shipped").nth(1).wait_for(timeout=PATIENCE)
        page.close()


def test_all_maps_are_shown_and_saved(page, address):
    open_view(page, address, "explain", faithful="1")
    page.get_by_text("area").nth(6).wait_for(timeout=PATIENCE)
    maps = page.locator("figure .picture img[alt^=map]")
    assert maps.count() == 7
    field(page, "Opacity").fill("25")
    assert maps.first.evaluate("image => image.style.opacity") == "0.25"
    field(page, "Class to explain").select_option("coast")
    page.get_by_text("for coast").nth(6).wait_for(timeout=PATIENCE)
    with page.expect_download() as download:
        page.locator("figure", has_text="occlusion").get_by_role("button", name="PNG").first.click()
    with Image.open(download.value.path()) as image:
        assert image.size == (512, 512)


def test_an_attack_fools_and_its_png_still_does(page, address, tmp_path):
    open_view(page, address, "attack", epsilon="8")
    page.get_by_role("button", name="Attack", exact=True).click()
    page.get_by_text("The attack succeeded.").wait_for(timeout=PATIENCE)
    before, after = (page.locator(".two > div").nth(place).locator("span").first.inner_text() for place in (0, 1))
    assert before != after
    page.locator(".chart", has_text="Probabilities").get_by_text(after).wait_for()
    with page.expect_download() as download:
        page.locator("figure", has_text="adversarial").get_by_role("button", name="PNG").first.click()
    download.value.save_as(tmp_path / "adversarial.png")
    upload(page, tmp_path / "adversarial.png")
    field(page, "ε").fill("0")
    page.get_by_role("button", name="Attack", exact=True).click()
    page.get_by_text("The attack failed.").wait_for(timeout=PATIENCE)
    assert page.locator(".two > div").first.locator("span").first.inner_text() == after


@pytest.fixture
def attacked(page, address):
    """A page on which a long attack runs."""
    open_view(page, address, "attack", method="square", steps="100", epsilon="0")
    page.get_by_role("button", name="Attack", exact=True).click()
    page.get_by_text("Running; forward passes").wait_for(timeout=PATIENCE)
    return page


def test_an_attack_is_stopped(attacked):
    attacked.get_by_role("button", name="Stop").click()
    attacked.get_by_text("Stopped.").wait_for(timeout=PATIENCE)
    attacked.wait_for_timeout(800)
    assert attacked.get_by_text("Stopped.").count() == 1


def test_another_image_ends_the_attack_on_the_one_before(attacked, photo):
    upload(attacked, photo)
    attacked.get_by_text(photo.name).wait_for(timeout=PATIENCE)
    attacked.wait_for_timeout(800)
    assert attacked.get_by_text("forward passes").count() == 0
    assert attacked.locator("img[alt=adversarial]").count() == 0


def test_a_second_attack_takes_the_place_of_the_first(attacked):
    field(attacked, "Attack").select_option("fgsm")
    field(attacked, "ε").fill("8")
    attacked.get_by_role("button", name="Attack", exact=True).click()
    attacked.get_by_text("→").wait_for(timeout=PATIENCE)
    assert attacked.locator("img[alt=adversarial]").count() == 1


def test_what_is_no_image_gets_a_message_and_the_page_goes_on(page, address, photo, tmp_path):
    """Of the three one is longer than the server takes."""
    garbage, bomb, large = tmp_path / "garbage.jpg", tmp_path / "bomb.png", tmp_path / "large.jpg"
    garbage.write_bytes(b"no image at all")
    Image.new("1", (12_000, 12_000)).save(bomb)
    large.write_bytes(bytes(25 * 2**20))
    open_view(page, address, "predict")
    guesses(page)
    for path, message in ((garbage, "garbage.jpg is not an image file"), (bomb, "at most 100,000,000 pixels")):
        upload(page, path)
        page.locator("#notice", has_text=message).wait_for(timeout=PATIENCE)
        assert page.locator(".bar").count() == 0  # nothing stale
        upload(page, photo)
        assert guesses(page)
        assert page.locator("#notice").inner_text() == ""
    upload(page, large)
    page.locator("#notice", has_text="at most 20 MiB").wait_for(timeout=PATIENCE)


def test_units_are_clicked_and_what_excites_them_is_found(page, address):
    open_view(page, address, "look")
    page.get_by_role("button", name="0", exact=True).first.wait_for(timeout=PATIENCE)
    page.locator(".card", has_text="Feature maps").locator("button.tile").first.click()
    units = page.get_by_label(re.compile("units of map"))
    units.click(position={"x": 3, "y": 3})
    page.get_by_text("The unit in row 0, column 0 sees rows 0 to 2 and columns 0 to 2 of 32.").wait_for()
    units.focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("The unit in row 0, column 1 sees rows 0 to 2 and columns 1 to 4 of 32.").wait_for()
    page.get_by_role("button", name="Find what excites it most").click()
    page.locator(".stay .tile").nth(8).wait_for(timeout=PATIENCE)
    page.locator(".stay .tile").first.click()
    wait_for(lambda: "val%3A" in page.url)


def test_convolution_by_hand_is_that_of_the_network(page, address):
    """Sum, products and size of the output map; the filter is moved by mouse and keyboard."""
    open_view(page, address, "convolve", filter="2", stride="2", padding="1")
    page.get_by_text("⌊(28 + 2·1 − 4) / 2⌋ + 1 = 14: 14×14 numbers, 1 computed").wait_for(timeout=PATIENCE)
    place = page.get_by_label(re.compile("place of the filter"))
    place.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    total = page.get_by_text(re.compile("row 1, column 1: the sum of 48 products"))
    expected = total.inner_text().rsplit(" ", 1)[1]
    products = [text.splitlines()[-1] for text in page.locator(".numbers td").all_inner_texts()]
    read = [float(text.replace("−", "-")) for text in (expected, *products)]
    assert read[0] == pytest.approx(sum(read[1:]), abs=0.03)
    box = place.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + 2)
    page.get_by_text("row 0, column 13").wait_for()
    field(page, "Filter").select_option("mean")
    field(page, "Kernel").fill("7")
    field(page, "Stride").fill("4")
    field(page, "Padding").fill("0")
    page.get_by_text("= 6: 6×6 numbers").wait_for()
    page.get_by_role("button", name="Slide").click()
    page.get_by_text("36 computed").wait_for(timeout=PATIENCE)


def test_mistakes_are_clicked_through_to_the_images(page, address, categories):
    open_view(page, address, "mistakes", image="")
    matrix = page.get_by_label(re.compile("confusion matrix"))
    matrix.wait_for(timeout=PATIENCE)
    matrix.click(position={"x": 2, "y": 2})
    page.get_by_text(f"3 images of {categories[0]} are recognized").wait_for()
    matrix.focus()
    page.keyboard.press("ArrowDown")
    page.get_by_text(re.compile(f"3 images of {categories[1]} are taken for {categories[0]}")).wait_for()
    page.locator("ol button").first.click()
    page.locator(".card", has_text="are taken for").locator(".tile").first.click()
    page.get_by_text(re.compile("a val image of")).wait_for(timeout=PATIENCE)
    assert guesses(page)


def test_two_networks_are_compared(page, address):
    open_view(page, address, "compare")
    page.get_by_text("Choose a second network").wait_for(timeout=PATIENCE)
    field(page, "Compared with").select_option("course/grüße 你好")
    page.get_by_text("paired on 36 images").wait_for(timeout=PATIENCE)
    counts = page.locator(".grid > .card .big").all_inner_texts()
    assert sum(map(int, counts)) == 36


def test_the_keyboard_is_enough(page, address):
    """The views and the buttons are reached by Tab and Enter, and what has the focus can be seen."""
    open_view(page, address, "predict")
    guesses(page)
    page.locator("nav a", has_text="Prediction").focus()
    for text in ("What fools it", "Attack"):
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.innerText") == text:
                break
        assert page.evaluate("document.activeElement.innerText") == text
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        page.wait_for_timeout(300)
    page.get_by_text("→").wait_for(timeout=PATIENCE)


@pytest.mark.parametrize("width", [360, 390, 2000])
def test_the_pages_fit_their_width(browser, address, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    for view in VIEWS:
        open_view(page, address, view, other="course/grüße 你好")
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_no_serious_violation(browser, address, view, scheme):
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    open_view(page, address, view, other="course/grüße 你好")
    page.wait_for_timeout(1500)
    found = axe.Axe().run(page).response["violations"]
    page.close()
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not serious, [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in serious]


def test_it_starts_before_torch_and_ends_at_once(folder, tmp_path):
    """A visitor sees the runs while torch is still being imported. `pytest -s` prints how long it takes."""
    began = time.monotonic()
    server, address, _ = start(tmp_path, folder)
    assert requests.get(f"{address}/api/runs", timeout=10).status_code == 200
    seconds, used = time.monotonic() - began, psutil.Process(server.pid).cpu_times()
    print(f"first answer after {seconds:.2f} s, of which the processor works {used.user + used.system:.2f} s")
    server.terminate()
    assert server.wait(30) == 0
    server.stdout.close()
    assert used.user + used.system < 3  # whatever else the machine does


def test_a_picture_is_soon_answered(server, photo):
    """In time of the processor, whatever else the machine does. `pytest -s` prints both times."""
    process, address = psutil.Process(server[0].pid), server[1]
    for attempt in range(2):
        began, before = time.monotonic(), process.cpu_times()
        content = photo.read_bytes() + bytes([attempt])  # behind the end of the JPEG
        image = requests.post(f"{address}/api/images", data=content, timeout=120).json()["image"]
        body = {"run": "untrained", "image": image}
        assert len(requests.post(f"{address}/api/predict", json=body, timeout=120).json()) == 5
        seconds, after = time.monotonic() - began, process.cpu_times()
    used = after.user + after.system - before.user - before.system
    print(f"an uploaded image was answered after {seconds:.2f} s, of which the processor worked {used:.2f} s")
    assert used < 1


def test_wrong_arguments_are_refused(untrained, tmp_path, capsys, address):
    run, port = str(untrained.folder), address.rpartition(":")[2]
    for arguments, message in (
        ([str(tmp_path / "nowhere")], "does not exist"),
        ([run, run], "same name"),
        ([run, "--port", "70000"], "choose another --port"),
        ([run, "--port", port], "choose another --port"),
        ([run, "--host", "::1"], "a --host of this machine"),
    ):
        assert main.run(["app", *arguments]) == 1
        assert message in capsys.readouterr().err


def test_training_is_watched(scenes, tmp_path):
    command = f"train demo --data {scenes} --out {tmp_path / 'run'} --epochs 1 --threads 1 --watch".split()
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([sys.executable, "-m", "scenelab", *command], **options) as process:
        lines = iter(process.stdout.readline, "")
        address = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        assert requests.get(f"{address}/api/runs", timeout=20).status_code == 200
        rest = "".join(lines)
        assert process.wait(120) == 0, rest
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=5)
