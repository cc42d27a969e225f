"""The page as text, and as a real browser shows it: at the widths of a phone and a desk, sorted, filtered, printed."""

import base64
import json
import re
import shutil
import subprocess
from hashlib import sha256

import numpy as np
import pytest

from search_spaces.core.errors import ConfigError, ResultsError
from sparse_search.pages.page import report
from trainables.core.shots import ALL_SHOTS

EVIL = "<script>alert('x')</script>"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def confusion_of(score):
    hits = round(50 * score)
    return ((hits, 50 - hits), (50 - hits, hits))


def with_pseudo_labels(record):
    for point in record["curve"]:
        point["losses"] = [
            {"epoch": point["epoch"], "loss": 1.0, "coverage": 0.25, "pseudo_accuracy": 0.9, "pseudo_balance": 0.2}
        ]
    return record


@pytest.fixture
def fill(store, make_record):
    """A small search with a default, early-stopped and failed trials, and a method that makes pseudo-labels."""

    def write(num_searched=24, **changes):
        rng = np.random.default_rng(0)
        for number in range(num_searched):
            lr, dropout = float(1e-4 * 50 ** rng.random()), float(rng.uniform(0, 0.5))
            config = {"image_size": 32, "pretrained": "", "lr": lr, "dropout": dropout}
            score = 0.9 - 0.1 * abs(np.log10(lr / 1e-3)) - 0.001 * number
            store.write(make_record(number, config=config, confusion=confusion_of(score), **changes))
        rest = dict(config={"image_size": 32, "pretrained": "", "lr": 1e-3, "dropout": 0.3}, **changes)
        store.write(make_record(900, start="default", confusion=confusion_of(0.7), **rest))
        store.write(make_record(901, status="pruned", **rest))
        store.write(make_record(902, status="failed", reason=f"Traceback\nRuntimeError: {EVIL}", **rest))
        vote = {"method": "votes", "start": "default", "confusion": confusion_of(0.8)}
        store.write(with_pseudo_labels(make_record(903, **vote | changes)))
        return store

    return write


@pytest.fixture
def page(fill, tmp_path):
    """The text of a report's page."""

    def write(store=None, **asked):
        return report((store or fill()).folder, tmp_path / "report.html", **asked).read_text()

    return write


def words_of(page):
    """What a reader sees: the text outside of tags, style and script."""
    body = re.sub(r"<(style|script|title)>.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_everything_is_on_the_page(page):
    words = words_of(page())
    assert "What the search found" in words
    for title in (
        "Learning curves", "Best so far", "Which settings mattered", "Pseudo-label health",
        "Configurations of supervised", "How far to trust this", "Why trials did not complete",
    ):  # fmt: skip
        assert title in words
    assert "At the end 90 % of those kept are right" in words
    assert "almost only one class is kept" in words
    assert "supervised leads with balanced accuracy 0.9" in words
    assert "The default of supervised reaches 0.700" in words
    assert "26 complete, 1 failed, 1 pruned" in words
    assert "Configurations tried: supervised 27, votes 1" in words
    assert "The test set was not looked at." in words
    assert "One label set" in words


def test_the_table_holds_without_javascript(page):
    text = page()
    body = re.search(r"<div data-board>.*?<tbody>(.*?)</tbody>", text, re.DOTALL)[1]
    assert body.count("<tr") == 26
    assert '<div class="tools" hidden>' in text


def test_names_and_messages_are_text(page, fill):
    text = page(fill(method=EVIL, dataset="<img src=x>"))
    assert EVIL not in text
    assert "<img" not in text
    assert text.count("<script>") == 1
    assert words_of(text).count("&lt;script&gt;alert(") > 5


def test_nothing_comes_from_elsewhere(page):
    text = page()
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", text)
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))


def test_the_same_records_give_the_same_page(fill, tmp_path):
    folder = fill(6).folder
    one, other = (report(folder, tmp_path / name).read_bytes() for name in ("one.html", "other.html"))
    assert one == other


def test_rankings_stay_apart_and_the_widest_evidence_comes_first(page, fill, make_record):
    store = fill(5)
    both = {"label_sets": "0, 1", "num_runs": 2, "study": "study confirmation"}
    for number, label_set in ((950, 0), (950, 1), (951, 0), (951, 1), (952, 0), (952, 1), (953, 0), (953, 1)):
        store.write(make_record(number, lr=number * 1e-6, label_set=label_set, **both))
    words = words_of(page(store))
    assert words.index("Label sets 0, 1") < words.index("Label set 0 ")
    assert "2 rankings, kept apart" in words
    assert "Confirmation: the best of the search and its defaults, means over 2 runs" in words
    assert words.count("Best so far") == 1


def test_a_confirmation_alone_makes_a_page(page, store, make_record):
    store.write(make_record(0, study="study confirmation", start="default"))
    assert "interval 0.40 to 0.89), in its default configuration." in words_of(page(store))


def test_a_trial_that_failed_at_first_is_complete(page, store, make_record):
    store.write(make_record(0, status="failed", reason="no memory", record_id="beef"))
    store.write(make_record(0, finished_at="2026-01-02T00:00:00+00:00"))
    words = words_of(page(store))
    assert "1 complete" in words
    assert "no memory" not in words


def test_label_sets_of_a_search_are_named(page, store, make_record):
    for label_set in (0, 1):
        store.write(make_record(0, label_set=label_set, label_sets="0, 1", num_runs=2))
    assert "Means over 2 runs that the search itself looked at" in words_of(page(store))


def test_several_datasets_have_an_overview_and_differences(page, fill, make_record):
    store = fill(5)
    store.write(make_record(950, dataset="pathmnist"))
    assert "At a glance" not in words_of(page(store, dataset="digits"))
    words = words_of(page(store))
    assert "At a glance" in words
    assert "critical difference" not in words


def test_from_six_datasets_on_differences_are_drawn(page, store, make_record):
    for place in range(6):
        for number, (method, hits) in enumerate((("sparse", 5), ("supervised", 4), ("constant", 2))):
            changes = {"dataset": f"data {place}", "content_hash": f"hash {place}"}
            confusion = ((hits, 5 - hits), (1, 4))
            store.write(make_record(10 * place + number, method=method, confusion=confusion, **changes))
    words = words_of(page(store))
    assert "critical difference" in words
    assert "Friedman test" in words


def test_few_records_make_a_page_that_says_so(page, store, make_record):
    store.write(make_record(0))
    store.write(make_record(1, status="diverged", start="default", reason="loss is nan"))
    words = words_of(page(store))
    assert "Not ranked: supervised" in words
    assert "loss is nan" in words
    assert "Best so far" not in words


def test_looks_at_the_test_set_are_counted(page, store, make_record):
    store.write(make_record(0))
    ledger = store.folder / "ledger" / "ab"
    ledger.mkdir(parents=True)
    for name, text in (("1", '{"dataset": "digits"}'), ("2", '{"dataset": "other"}'), ("3", "cut off"), ("4", "[]")):
        (ledger / f"{name}.json").write_text(text)
    assert "The test set was looked at 4 times." in words_of(page(store))
    assert "The test set was looked at 3 times." in words_of(page(store, dataset="digits"))


@pytest.mark.parametrize("metric", ["calibration_error", "log_loss"])
def test_metrics_without_an_interval(page, fill, metric):
    words = words_of(page(fill(5), metric=metric))
    assert "95 % interval" not in words
    assert "Learning curves" in words


@pytest.mark.slow
def test_a_large_search_stays_readable(store, make_record, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(1500):
        config = {"image_size": 32, "pretrained": "", "lr": float(rng.random()), "dropout": float(rng.random())}
        store.write(make_record(number, config=config, confusion=confusion_of(rng.uniform(0.3, 0.9))))
    text = report(store.folder, tmp_path / "report.html").read_text()
    assert len(text) < 1_000_000
    assert "100 of 1,500" in words_of(text)
    assert "the best 200 of 1500" in words_of(text)


def test_mistakes(fill, tmp_path):
    folder = fill(2).folder
    with pytest.raises(ResultsError, match="with shots 50"):
        report(folder, tmp_path / "report.html", shots=50)
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        report(folder, tmp_path / "report.html", metric="acuracy")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="name another file"):
        report(folder, tmp_path / "file" / "report.html")


def browse(text, probe, folder, width):
    """What a script inside the page returns, and what the browser complained of."""
    script = f"parent.postMessage(JSON.stringify((() => {{ {probe} }})()), '*');"
    allowed = base64.b64encode(sha256(script.encode()).digest()).decode()
    inner = text.replace("script-src ", f"script-src 'sha256-{allowed}' ", 1)
    (folder / "inner.html").write_text(inner.replace("</body>", f"<script>{script}</script></body>"))
    (folder / "outer.html").write_text(
        "<script>addEventListener('message', (event) => { document.body.textContent = event.data; })</script>"
        f"<body><iframe src=inner.html style='width:{width}px;height:1000px'></iframe>"
    )
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr", "--virtual-time-budget=3000", f"--window-size={max(600, width + 50)},1100",
        "--dump-dom", (folder / "outer.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    answer = re.search(r"<body>(.*?)</body>", done.stdout, re.DOTALL)[1]
    assert answer.startswith(("{", "[", '"')), done.stdout + done.stderr
    return json.loads(answer.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), [
        line for line in done.stderr.splitlines() if "CONSOLE" in line
    ]


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_it_fits_and_nothing_is_loaded(page, tmp_path, width):
    probe = """
    const box = (element) => element.getBoundingClientRect();
    return {
      width: innerWidth,
      page: document.documentElement.scrollWidth,
      loaded: performance.getEntriesByType("resource").map((entry) => entry.name),
      figures: [...document.querySelectorAll("figure svg")].map((svg) => [box(svg).width, box(svg).height]),
      smallest: Math.min(...[...document.querySelectorAll("figure svg text")].map((text) => box(text).height)),
      whiskers: [...document.querySelectorAll(".whisker")].map((cell) => {
        const [line, dot] = [box(cell.querySelector("i")), box(cell.querySelector("b"))];
        const middle = dot.left + dot.width / 2;
        return line.left <= middle && middle <= line.right && line.left >= box(cell).left - 1;
      }),
    };"""
    seen, complaints = browse(page(), probe, tmp_path, width)
    assert complaints == []
    assert seen["width"] == width
    assert seen["page"] <= width
    assert seen["loaded"] == []
    assert len(seen["figures"]) == 5
    assert all(w > 280 and h > 60 for w, h in seen["figures"])
    assert seen["smallest"] > 7
    assert len(seen["whiskers"]) == 26
    assert all(seen["whiskers"])


@needs_browser
def test_in_a_browser_the_table_sorts_and_filters(page, tmp_path):
    probe = """
    const board = document.querySelector("[data-board]");
    const rows = () => [...board.querySelectorAll("tbody tr")].filter((row) => !row.hidden);
    const column = (index) => rows().map((row) => row.cells[index].dataset.value);
    const heads = [...board.querySelectorAll("thead th")];
    const click = (index) => { heads[index].querySelector("button").click(); return column(index); };
    const input = board.querySelector("input");
    const filter = (words) => {
      input.value = words;
      input.dispatchEvent(new Event("input"));
      return [rows().length, board.querySelector("output").value];
    };
    return {
      before: column(0), down: click(2), up: click(2), sorted: heads[2].ariaSort, others: heads[0].ariaSort,
      losses: click(8), names: click(1), back: click(0),
      default: filter("supervised DEFAULT"), none: filter("no such words"), all: filter(""),
    };"""
    seen, complaints = browse(page(), probe, tmp_path, 1280)
    assert complaints == []
    assert seen["before"] == [str(n) for n in range(1, 27)]
    scores = list(map(float, seen["up"]))
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    assert list(map(float, seen["down"])) == scores[::-1]
    assert (seen["sorted"], seen["others"]) == ("ascending", None)
    assert list(map(float, seen["losses"])) == sorted(map(float, seen["losses"]))
    assert seen["back"] == seen["before"]
    assert seen["names"] == sorted(seen["names"])
    assert (seen["default"], seen["none"], seen["all"]) == ([1, "1 of 26"], [0, "0 of 26"], [26, "26 of 26"])


@needs_browser
def test_in_a_browser_an_evil_name_stays_text(page, fill, tmp_path):
    store = fill(5, method=EVIL)
    probe = """return {
      scripts: document.scripts.length,
      names: [...document.querySelectorAll("td.name")].map((cell) => cell.firstChild.textContent.trim()),
      broken: [...document.querySelectorAll("svg script, img, iframe")].length,
    };"""
    seen, complaints = browse(page(store), probe, tmp_path, 1280)
    assert complaints == []
    assert (seen["scripts"], seen["broken"]) == (2, 0)
    assert EVIL in seen["names"]


@needs_browser
def test_the_browser_does_tell_what_goes_wrong(page, tmp_path, store, make_record):
    store.write(make_record(0))
    probe = """const image = new Image(); image.src = "https://example.org/x.png"; return "done";"""
    seen, complaints = browse(page(store), probe, tmp_path, 1280)
    assert seen == "done"
    assert any("Content Security Policy" in line for line in complaints)


@needs_browser
def test_it_prints(page, tmp_path):
    page()
    pdf = tmp_path / "report.pdf"
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        f"--print-to-pdf={pdf}", (tmp_path / "report.html").as_uri(),
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    num_pages = len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
    assert 2 <= num_pages <= 8


def test_all_labels_are_named_so(store, make_record, tmp_path):
    store.write(make_record(0, shots=ALL_SHOTS))
    page = report(store.folder, tmp_path / "all.html", shots=ALL_SHOTS).read_text()
    assert "digits, all labelled images</h2>" in page
    assert "; all labels. Records" in page
    assert "0 shots" not in page
