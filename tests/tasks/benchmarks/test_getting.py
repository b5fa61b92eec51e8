"""Published sets arrive whole or not at all; their images are found wherever they lie."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import threading
import types
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from lmmsae_eval.errors import BadImageError, IncompleteError, UnknownNameError, UsageError
from lmmsae_eval.tasks.benchmarks.figures import expected, open_figures
from lmmsae_eval.tasks.benchmarks.getting import answers_sha256, get, state
from lmmsae_eval.tasks.benchmarks.opening import open_questions
from lmmsae_eval.tasks.benchmarks.published import (
    AMBER,
    FIGURES,
    HALLUSIONBENCH,
    POPE,
    PUBLISHED,
    File,
    published,
)
from lmmsae_eval.tasks.benchmarks.reading import read_file, read_published
from lmmsae_eval.tasks.hallucination.questions import Question, read_questions, split_families
from PIL import Image

RECORDS = [
    {
        "category": "VS", "subcategory": "map", "visual_input": str(figure), "set_id": "9",
        "figure_id": str(figure), "question_id": "0", "question": "Is it so?",
        "gt_answer": str(figure % 2), "sample_note": "x", "gt_answer_details": "so",
        "filename": f"./VS/map/9_{figure}.png" if figure else None,
    }
    for figure in range(3)
]  # fmt: skip
CONTENT = json.dumps(RECORDS).encode()


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """Three questions as if they were HallusionBench, published as a file."""
    place = tmp_path / "upstream" / "HallusionBench.json"
    place.parent.mkdir()
    place.write_bytes(CONTENT)
    file = File(place.name, place.as_uri(), hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setenv("LMMSAE_EVAL_DATA", str(tmp_path / "data"))
    small = replace(HALLUSIONBENCH, files=(file,), answers_sha256=answers_sha256(RECORDS))
    for module in ("getting", "reading"):
        monkeypatch.setattr(f"lmmsae_eval.tasks.benchmarks.{module}.HALLUSIONBENCH", small)
    return small


def png(colour=0):
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (colour, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_set_is_brought_from_upstream_once_and_told_with_what_is_missing(upstream, tmp_path):
    got = get(upstream)
    assert (got.n_questions, got.n_text_only, got.n_figures) == (3, 1, 2)
    assert got.missing == ["VS/map/9_1.png", "VS/map/9_2.png"]
    (tmp_path / "upstream" / "HallusionBench.json").unlink()
    assert get(upstream) == got


@pytest.mark.parametrize("part", ["upstream", "upstream/HallusionBench.json"])
def test_a_set_is_read_from_a_file_or_its_folder(upstream, tmp_path, part):
    assert get(upstream, str(tmp_path / part)).n_questions == 3


def test_one_changed_byte_is_refused_wherever_the_file_comes_from(upstream, tmp_path):
    get(upstream)
    kept = tmp_path / "data" / "hallusionbench" / "HallusionBench.json"
    kept.write_bytes(CONTENT + b" ")
    with pytest.raises(UsageError, match="not the published file: sha256"):
        get(upstream)
    (tmp_path / "upstream" / "HallusionBench.json").write_bytes(CONTENT.replace(b"so", b"no"))
    with pytest.raises(UsageError, match="not the published file"):
        get(upstream, str(tmp_path / "upstream"))


def test_upstream_out_of_reach_is_incomplete_and_names_the_way_out(upstream, tmp_path):
    (tmp_path / "upstream" / "HallusionBench.json").unlink()
    with pytest.raises(IncompleteError, match="--from"):
        get(upstream)


def test_a_path_without_the_file_is_one_clear_line(upstream, tmp_path):
    with pytest.raises(UsageError, match=r"no HallusionBench.json at"):
        get(upstream, str(tmp_path / "nowhere"))


def test_a_set_that_nobody_knows_is_told_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="did you mean 'pope'"):
        published("popes")


def _folder(root):
    (root / "deep" / "VS" / "map").mkdir(parents=True)
    (root / "deep" / "VS" / "map" / "9_1.png").write_bytes(png(1))
    return root


def _zip(root):
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        archive.writestr("hallusion_bench/VS/map/9_1.png", png(1))
        archive.writestr("../../outside.png", png(2))
    return root / "a.zip"


def _tar(root):
    with tarfile.open(root / "a.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("./VS/map/9_1.png")
        info.size = len(png(1))
        archive.addfile(info, io.BytesIO(png(1)))
    return root / "a.tar.gz"


@pytest.mark.parametrize("make", [_folder, _zip, _tar])
def test_images_come_from_a_folder_or_an_archive_and_what_lacks_is_reported(
    upstream, tmp_path, make
):
    source = tmp_path / "images"
    source.mkdir()
    got = get(upstream, images=str(make(source)))
    assert got.missing == ["VS/map/9_2.png"]
    picture = open_figures(got.folder / FIGURES).image("./VS/map/9_1.png")
    assert picture.getpixel((0, 0)) == (1, 0, 0)
    assert {p.name for p in got.folder.rglob("*.png")} == {"9_1.png"}


def test_a_place_without_any_of_the_images_is_refused(upstream, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="none of the 2 images"):
        get(upstream, images=str(tmp_path / "empty"))


def test_an_image_twice_in_a_folder_missing_broken_or_outside_is_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"no picture")
    figures = open_figures(tmp_path)
    with pytest.raises(UsageError, match=r"twice, as a/x.png and b/x.png"):
        figures.find("x.png")
    with pytest.raises(BadImageError, match="can't read the image"):
        figures.image("a/x.png")
    with pytest.raises(BadImageError, match=r"no y.png in"):
        figures.read("y.png")
    with pytest.raises(UsageError, match="leads out"):
        figures.find("../x.png")
    assert figures.missing(["a/x.png", "y.png"]) == ["y.png"]


def test_what_is_neither_folder_nor_archive_is_refused(tmp_path):
    (tmp_path / "text.zip").write_text("no archive")
    for place in ("text.zip", "nothing"):
        with pytest.raises(UsageError):
            open_figures(tmp_path / place)


def test_the_identity_of_images_changes_with_their_content_alone(tmp_path):
    (tmp_path / "x.png").write_bytes(png(1))
    before = open_figures(tmp_path).identity(["x.png"])
    (tmp_path / "y.png").write_bytes(png(3))
    assert open_figures(tmp_path).identity(["x.png"]) == before
    (tmp_path / "x.png").write_bytes(png(2))
    assert open_figures(tmp_path).identity(["x.png"]) != before


def hub(monkeypatch, rows):
    """A `datasets` that knows one set."""
    module = types.ModuleType("datasets")
    module.load_dataset = lambda name, revision: {"image": rows[1:], "non_image": rows[:1]}
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_questions_and_images_come_from_the_hub_when_keys_and_answers_are_the_published(
    upstream, monkeypatch
):
    pictures = [None, Image.new("RGB", (2, 2), (5, 0, 0)), Image.new("RGB", (2, 2), (6, 0, 0))]
    rows = [
        {k: v for k, v in r.items() if k != "filename"} | {"image": picture}
        for r, picture in zip(RECORDS, pictures, strict=True)
    ]
    hub(monkeypatch, rows)
    got = get(upstream, "hub:lmms-lab/HallusionBench@main", "hub:lmms-lab/HallusionBench")
    assert got.missing == []
    records = read_published(upstream, got.folder)
    assert {Question(r).id for r in records} == {Question(r).id for r in RECORDS}
    assert open_figures(got.folder / FIGURES).image("VS/map/9_2.png").getpixel((0, 0)) == (6, 0, 0)
    rows[1]["gt_answer"] = "0"
    with pytest.raises(UsageError, match="differs from the published"):
        get(upstream, "hub:another/copy")


def test_records_without_a_topic_get_their_subcategory_as_one(tmp_path):
    (tmp_path / "q.json").write_bytes(CONTENT)
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(r) for r in RECORDS))
    found = [read_questions(read_file(tmp_path / name)) for name in ("q.json", "q.jsonl")]
    assert [[q.topic for q in each] for each in found] == [["VS/map"] * 3] * 2
    assert expected(RECORDS) == ["VS/map/9_1.png", "VS/map/9_2.png"]


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[1]"])
def test_a_file_that_holds_no_questions_is_refused(tmp_path, text):
    (tmp_path / "q.json").write_text(text)
    with pytest.raises(UsageError):
        read_questions(read_file(tmp_path / "q.json"))


def test_the_published_files_are_the_ones_that_are_expected(published_folder, tmp_path):
    for what in (HALLUSIONBENCH, POPE, AMBER):
        got = get(what, str(published_folder(what.name)), root=tmp_path)
        assert (got.n_questions, got.n_figures) == (what.n_questions, what.n_figures)
        assert len(got.missing) == what.n_figures
        assert state(what, tmp_path) == got
    assert get(HALLUSIONBENCH, root=tmp_path).n_text_only == 178


def test_the_published_answers_have_the_digest_that_hub_copies_are_held_to(hallusionbench):
    assert answers_sha256(hallusionbench) == HALLUSIONBENCH.answers_sha256


def test_pope_is_balanced_by_image_and_no_image_crosses_the_split(published_folder):
    records = read_published(POPE, published_folder("pope"))
    questions = read_questions(records)
    assert sum(q.gt for q in questions) == 4500
    assert {q.kind for q in questions} == {"random", "popular", "adversarial"}
    assert len({q.pair for q in questions}) == 1500
    dev, test = split_families(records)
    assert {r["filename"] for r in dev} & {r["filename"] for r in test} == set()


def test_amber_holds_the_yes_no_part_alone_and_all_of_its_existence_answers_are_no(
    published_folder,
):
    questions = read_questions(read_published(AMBER, published_folder("amber")))
    counts = {}
    for q in questions:
        counts.setdefault(q.kind, [0, 0])[q.gt] += 1
    assert counts == {
        "existence": [4924, 0],
        "attribute-state": [2382, 2382],
        "attribute-number": [1036, 1036],
        "attribute-action": [396, 396],
        "relation": [689, 975],
    }


def test_the_bolivia_triple_is_in_the_file_as_the_paper_shows_it(hallusionbench):
    key = {"category": "VS", "subcategory": "map", "set_id": "9", "question_id": "0"}
    triple = [r for r in hallusionbench if all(r[name] == value for name, value in key.items())]
    assert {r["figure_id"]: r["gt_answer"] for r in triple} == {"0": "1", "1": "1", "2": "0"}
    assert all("Bolivia" in r["question"] for r in triple)


class Upstream(BaseHTTPRequestHandler):
    """Serves files by path; what is not there is 404, and `slow` bodies break off half-way."""

    files: ClassVar[dict[str, bytes]] = {}
    broken: ClassVar[set[str]] = set()

    def do_GET(self):
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path in self.broken else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def served(upstream, monkeypatch):
    """The same three questions from a server on this machine."""
    handler = type("Serving", (Upstream,), {"files": {"/HallusionBench.json": CONTENT}})
    handler.broken = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/HallusionBench.json"
    what = replace(upstream, files=(replace(upstream.files[0], url=url),))
    for module in ("getting", "reading"):
        monkeypatch.setattr(f"lmmsae_eval.tasks.benchmarks.{module}.HALLUSIONBENCH", what)
    monkeypatch.setitem(PUBLISHED, "hallusionbench", what)
    yield handler, what
    server.shutdown()
    server.server_close()


def test_a_set_is_downloaded_over_http_and_its_178_of_this_size_are_usable_alone(served):
    _, what = served
    got = get(what)
    assert (got.n_questions, got.n_text_only, len(got.missing)) == (3, 1, 2)
    assert read_published(what, got.folder)[0]["filename"] is None


def test_a_download_with_another_sha256_is_refused_and_leaves_nothing(served, tmp_path):
    handler, what = served
    handler.files = {"/HallusionBench.json": CONTENT + b"\n"}
    with pytest.raises(UsageError, match="not the published file: sha256"):
        get(what)
    assert not list((tmp_path / "data").rglob("*.json"))


def test_a_download_that_breaks_off_is_incomplete_and_the_next_one_is_whole(served, tmp_path):
    handler, what = served
    handler.broken = {"/HallusionBench.json"}
    with pytest.raises(IncompleteError, match="can't reach"):
        get(what)
    assert not list((tmp_path / "data").rglob("*.json"))
    handler.broken = set()
    assert get(what).n_questions == 3


def test_a_file_that_upstream_has_moved_names_the_way_out(served):
    handler, what = served
    handler.files = {}
    with pytest.raises(IncompleteError, match=r"404.*--from"):
        get(what)


def test_the_text_only_questions_of_the_whole_set_can_be_asked_without_any_figure(
    published_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("LMMSAE_EVAL_DATA", str(tmp_path))
    got = get(HALLUSIONBENCH, str(published_folder("hallusionbench")))
    assert (got.n_text_only, got.n_figures, len(got.missing)) == (178, 346, 346)
    asked = open_questions("hallusionbench")
    assert len(asked.records) == 178
    assert len(asked.left_out) == 346
    halves = [len(asked.questions(split).records) for split in ("dev", "test")]
    assert sum(halves) == 178
    assert min(halves) > 40
