"""Rows from an archive on a package index: found as pip would find it, downloaded once, never half used."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from spillover.data import archives, package_index
from spillover.data.load import load_test
from spillover.data.package_index import PackageFile, PipSettings, download, pip_settings
from spillover.data.sources import Places, members_of, read_source
from spillover.data.tasks import dataset_task
from spillover.errors import DataError, SourceUnavailable
from spillover.experiment.suite import DatasetSpec

TASKS: dict[str, list[dict[str, Any]]] = {
    "weather": [{"input": "Rain?", "target_scores": {"no": 0, "yes": 1}}, {"input": "Sun?", "target": ["no", "none"]}],
    "deep/past": [{"input": "go", "target": "went"}] * 50,
    "broken": [{"question": "no input"}],
}
FILE = "facts-1.0.tar.gz"


def packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as tar:
        for name, examples in TASKS.items():
            content = json.dumps({"name": name, "examples": examples}).encode()
            entry = tarfile.TarInfo(f"facts-1.0/{name}/task.json")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


CONTENT = packed()
FACTS = PackageFile("facts", FILE, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@dataclass
class Index:
    """A package index on loopback. `content` is what it gives for the file; `gives` only so many bytes at a time."""

    content: bytes = CONTENT
    gives: int | None = None
    knows_ranges: bool = True
    asked: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    index: Index

    def do_GET(self) -> None:
        self.index.asked.append(self.path)
        if self.path.endswith("/simple/facts/"):
            self.reply(200, f'<a href="../../files/{FILE}">{FILE}</a>'.encode(), "text/html")
        elif self.path.endswith(FILE):
            wanted = self.headers["Range"]
            self.index.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.index.knows_ranges else 0
            body = self.index.content[start:]
            self.reply(206 if start else 200, body, "application/gzip", body[: self.index.gives])
        else:
            self.reply(404, b"", "text/plain")

    def reply(self, status: int, body: bytes, kind: str, sent: bytes | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if sent is None else sent)  # less than was announced: the connection breaks

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[Index]:
    own = Index()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Of", (Handler,), {"index": own}))
    own.url = f"http://127.0.0.1:{server.server_port}/simple"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield own
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_unavailable", {})


@pytest.fixture
def facts(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipSettings:
    """The archive is known under the name `facts`, the cache is empty, and pip is set to the index on loopback."""
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path / "cache"))
    known = archives.Archive(
        name="facts",
        version="1.0",
        file_name=FILE,
        bytes=FACTS.bytes,
        sha256=FACTS.sha256,
        license="none",
        members="facts-1.0/{member}/task.json",
    )
    monkeypatch.setattr(archives, "known", functools.cache(lambda: {"facts": known}))
    return PipSettings((index.url,))


def silent(_: str) -> None:
    pass


# --- rows -------------------------------------------------------------------------------------------------------------


def test_rows_of_a_member(facts: PipSettings, index: Index) -> None:
    """References and options become columns. The archive is fetched once and deleted; a member is kept."""
    said: list[str] = []
    archives.ensure("facts", ["weather"], said.append, facts)
    assert archives.rows("facts", "weather") == [
        {"input": "Rain?", "target": "yes", "targets": ["yes"], "options": ["no", "yes"], "answer": "yes"},
        {"input": "Sun?", "target": "no", "targets": ["no", "none"]},
    ]
    assert any("100 %" in line for line in said)
    archives.ensure("facts", ["weather"], said.append, facts)
    assert len(index.ranges) == 1
    assert not list(archives.archive_of("facts").folder.glob("*.tar.gz"))


def test_another_member_is_fetched_beside_the_first(facts: PipSettings) -> None:
    archives.ensure("facts", ["weather"], silent, facts)
    archives.ensure("facts", ["weather", "deep/past"], silent, facts)
    assert len(archives.rows("facts", "deep/past")) == 50 and len(archives.rows("facts", "weather")) == 2


def test_a_download_keeps_what_else_may_be_needed(facts: PipSettings, index: Index) -> None:
    """Members beside the wanted ones are kept if the archive has them, and are no reason to fetch it."""
    archives.ensure("facts", ["weather"], silent, facts, beside=["deep/past", "nowhere"])
    archives.ensure("facts", ["deep/past"], silent, facts, beside=["nowhere"])
    assert len(index.ranges) == 1 and len(archives.rows("facts", "deep/past")) == 50


@pytest.mark.parametrize("harm", [lambda content: b"", lambda content: content[:-9], lambda content: content + b"x"])
def test_a_member_that_is_not_whole_is_fetched_again(facts: PipSettings, harm: Any) -> None:
    archives.ensure("facts", ["weather"], silent, facts)
    (kept,) = archives.archive_of("facts").folder.glob("*.jsonl.gz")
    kept.write_bytes(harm(kept.read_bytes()))
    archives.ensure("facts", ["weather"], silent, facts)
    assert len(archives.rows("facts", "weather")) == 2


@pytest.mark.parametrize(("member", "said"), [("none", "none"), ("broken", "broken")])
def test_a_member_that_is_absent_or_of_another_form(facts: PipSettings, member: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        archives.ensure("facts", [member], silent, facts)


def test_nobody_waits_twice_for_an_index_that_is_not_there(facts: PipSettings, index: Index) -> None:
    index.content = b"another file"
    for _ in range(3):
        with pytest.raises(SourceUnavailable):
            archives.ensure("facts", ["weather"], silent, facts)
    assert len(index.ranges) == 1


def test_an_archive_that_is_not_known() -> None:
    with pytest.raises(DataError, match="bigbench"):
        archives.ensure("bigbensh", ["x"], silent)


# --- where the file comes from ----------------------------------------------------------------------------------------


def test_an_interrupted_download_goes_on(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_index, "PIECE", 10)
    target, settings = tmp_path / FILE, PipSettings((index.url,))
    index.gives = 100
    with pytest.raises(SourceUnavailable):
        download(FACTS, target, silent, settings)
    there = target.stat().st_size
    assert there == 100
    index.gives = None
    download(FACTS, target, silent, settings)
    assert index.ranges == [None, f"bytes={there}-"] and target.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(index: Index, tmp_path: Path) -> None:
    index.knows_ranges = False
    (tmp_path / FILE).write_bytes(CONTENT[:77])
    download(FACTS, tmp_path / FILE, silent, PipSettings((index.url,)))
    assert (tmp_path / FILE).read_bytes() == CONTENT


@pytest.mark.parametrize("other", [CONTENT + b"more", CONTENT[:-1] + b"x"])
def test_another_file_of_that_name_is_refused(index: Index, tmp_path: Path, other: bytes) -> None:
    index.content = other
    with pytest.raises(SourceUnavailable, match="checksum"):
        download(FACTS, tmp_path / FILE, silent, PipSettings((index.url,)))
    assert not (tmp_path / FILE).exists()


def test_a_broken_beginning_is_not_kept_for_ever(index: Index, tmp_path: Path) -> None:
    """The first bytes on disk are of another file: the second try starts over."""
    target, settings = tmp_path / FILE, PipSettings((index.url,))
    target.write_bytes(b"x" * 50)
    with pytest.raises(SourceUnavailable, match="checksum"):
        download(FACTS, target, silent, settings)
    download(FACTS, target, silent, settings)
    assert target.read_bytes() == CONTENT


def test_the_next_index_is_tried(index: Index, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/simple"
    download(FACTS, tmp_path / FILE, silent, PipSettings((nowhere, index.url), timeout_s=2))
    assert (tmp_path / FILE).read_bytes() == CONTENT


@pytest.mark.parametrize("form", [str, Path.as_uri])
def test_a_folder_of_links_comes_first(index: Index, tmp_path: Path, form: Any) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / FILE).write_bytes(CONTENT)
    download(FACTS, tmp_path / FILE, silent, PipSettings((index.url,), (form(tmp_path / "links"),)))
    assert (tmp_path / FILE).read_bytes() == CONTENT and not index.asked


def test_everything_goes_through_the_proxy(index: Index, tmp_path: Path) -> None:
    """The index on loopback serves as the proxy: it is asked for whole addresses of a host that does not exist."""
    settings = PipSettings(("http://index.invalid/simple",), proxy=index.url.removesuffix("/simple"))
    download(FACTS, tmp_path / FILE, silent, settings)
    assert index.asked == ["http://index.invalid/simple/facts/", f"http://index.invalid/files/{FILE}"]


def test_without_a_network_one_line_says_where_it_was_looked_for(tmp_path: Path) -> None:
    settings = PipSettings(("http://name:secret@127.0.0.1:9/simple",), timeout_s=2)
    with pytest.raises(SourceUnavailable) as raised:
        download(FACTS, tmp_path / FILE, silent, settings)
    assert "127.0.0.1:9" in str(raised.value) and "secret" not in str(raised.value)


# --- pip's configuration ----------------------------------------------------------------------------------------------


def test_the_environment_counts_more_than_files() -> None:
    settings = PipSettings.of(
        {
            "global.index-url": "https://all/simple",
            "download.index-url": "https://downloads/simple",
            "global.extra-index-url": "https://a/simple https://b/simple",
            "global.proxy": "http://proxy:3128",
            ":env:.default-timeout": "7",
            ":env:.trusted-host": "a b",
        }
    )
    assert settings.indexes == ("https://downloads/simple", "https://a/simple", "https://b/simple")
    assert (settings.proxy, settings.timeout_s, settings.trusted_hosts) == ("http://proxy:3128", 7.0, ("a", "b"))
    assert PipSettings.of({":env:.index-url": "https://env", "download.index-url": "x"}).indexes == ("https://env",)
    assert PipSettings.of({"global.no-index": "true", "global.index-url": "x"}).indexes == ()
    assert PipSettings.of({}) == PipSettings()


def test_pips_own_files_and_variables_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nproxy = http://proxy.invalid:1\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "https://own.invalid/simple")
    settings = pip_settings()
    assert settings.indexes[0] == "https://own.invalid/simple" and settings.proxy == "http://proxy.invalid:1"


# --- as a source of a data set ----------------------------------------------------------------------------------------


def spec_of(**source: Any) -> DatasetSpec:
    return DatasetSpec.model_validate({"template": "{first} {second}", "test": {"archive": "facts", **source}})


def read(spec: DatasetSpec, settings: PipSettings) -> list[tuple[dict[str, str], str]]:
    places = Places(members=members_of([spec]))
    task = dataset_task("own", spec, {"own": spec}, places)
    return [(dict(row.fields), row.target) for row in load_test("own", spec, task, places).examples]


@pytest.fixture
def by_settings(facts: PipSettings, monkeypatch: pytest.MonkeyPatch) -> PipSettings:
    monkeypatch.setattr(package_index, "pip_settings", lambda: facts)
    return facts


def test_named_groups_of_a_pattern_are_columns(by_settings: PipSettings) -> None:
    spec = spec_of(member="weather", patterns={"input": r"(?P<first>\w)(?P<second>.*)"}, target="target")
    assert read(spec, by_settings) == [
        ({"first": "R", "second": "ain?"}, "yes"),
        ({"first": "S", "second": "un?"}, "no"),
    ]


def test_a_row_that_does_not_match_is_an_error(by_settings: PipSettings) -> None:
    spec = spec_of(member="weather", patterns={"input": r"(?P<first>R)(?P<second>.*)"}, target="target")
    with pytest.raises(DataError, match="row 1"):
        read(spec, by_settings)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "member"),
        ({"member": "weather", "patterns": {"input": "(?P<first>"}}, "regular expression"),
        ({"member": "weather", "patterns": {"input": "no group"}}, "named group"),
    ],
)
def test_a_source_that_cannot_be_read(source: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec_of(**source)


def test_all_that_an_experiment_needs_comes_from_one_download(by_settings: PipSettings, index: Index) -> None:
    spec = DatasetSpec.model_validate(
        {"test": [{"archive": "facts", "member": "weather"}, {"archive": "facts", "member": "deep/past"}]}
    )
    places = Places(members=members_of([spec]))
    for source in spec.test:
        read_source(source, "test", None, places)
    assert len(index.ranges) == 1
