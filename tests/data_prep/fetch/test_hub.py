"""Downloads: named files of a revision; out of reach is one error that names the way out."""

import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from codiemb.errors import UserError
from data_prep.fetch import hub
from data_prep.fetch.recipe import load_recipe, parse_recipe
from tests.support.fetching import as_bytes, fetch, judged, table, write_all
from tests.support.miniatures import MINIATURES
from tests.support.paths import ROOT


class FakeHub:
    """What the hub's client would do, and what it was asked for."""

    def __init__(self, files):
        self.files, self.asked = files, []

    def list_repo_files(self, repository, **about):
        self.asked.append((repository, about))
        return list(self.files)

    def snapshot_download(self, repository, allow_patterns, local_dir, **about):
        write_all(local_dir, {name: self.files[name] for name in allow_patterns})


@pytest.fixture
def fake_hub(monkeypatch):
    def install(files):
        fake = FakeHub(files)
        monkeypatch.setattr(hub, "hub_is_reachable", lambda: True)
        monkeypatch.setattr(hub, "HfApi", lambda: fake)
        monkeypatch.setattr(hub, "snapshot_download", fake.snapshot_download)
        return fake

    return install


def test_the_files_of_a_revision_are_fetched_and_kept(tmp_path, fake_hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    fake = fake_hub(
        MINIATURES["quora_triplets"] | {"pair/train-00000-of-00001.parquet": [{"a": 1}], "x.py": [["x"]]}
    )
    out = fetch(tmp_path / "out", recipe="quora_triplets", raw=tmp_path / "raw", accept_licence=True)
    assert judged(out) == {("A man runs.", "Somebody moves.", 1), ("A man runs.", "He sleeps.", 0)}
    about = {"repo_type": "dataset", "revision": load_recipe("quora_triplets").revision, "token": False}
    assert fake.asked == [("sentence-transformers/quora-duplicates", about)]
    kept = [path.name for path in (tmp_path / "raw/quora_triplets").rglob("*.*") if path.is_file()]
    assert sorted(kept) == [f".{about['revision']}", "train-00000-of-00001.parquet"]
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: False)  # what is there whole needs no network
    fetch(tmp_path / "again", recipe="quora_triplets", raw=tmp_path / "raw", accept_licence=True)


def test_a_token_comes_from_the_environment(tmp_path, fake_hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "mine")
    fake = fake_hub(MINIATURES["rlhn"])
    hub.download(load_recipe("rlhn"), tmp_path)
    assert fake.asked[0][1]["token"] == "mine"


def test_a_pattern_that_fits_no_file_of_the_repository_is_told(tmp_path, fake_hub):
    fake_hub({"data/test.parquet": [{"a": 1}]})
    with pytest.raises(
        UserError, match=r"rlhn/rlhn-680K at main: no file fits 'data/train-\*.parquet'; there are data/test"
    ):
        hub.download(load_recipe("rlhn"), tmp_path)


def test_a_hub_out_of_reach_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr("codiemb.hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"hub is out of reach; fetch data/train-\*\.parquet of rlhn/rlhn-680K.*--from FOLDER"
    ):
        fetch(tmp_path / "out", recipe="rlhn", raw=tmp_path / "raw")
    assert not (tmp_path / "out").exists()


def test_that_error_does_not_wait_for_torch():
    code = "import sys, data_prep.steps.fetch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_repository_without_access_is_told_with_what_to_do(tmp_path, fake_hub, monkeypatch):
    fake = fake_hub({})

    def refuse(*_, **__):
        raise RepositoryNotFoundError(
            "404 Client Error.\n\nRepository Not Found", response=SimpleNamespace(headers={}, request=None)
        )

    monkeypatch.setattr(fake, "list_repo_files", refuse)
    with pytest.raises(
        UserError, match=r"rlhn/rlhn-680K at main: Repository Not Found; ask for access.*HF_TOKEN.*--from"
    ):
        hub.download(load_recipe("rlhn"), tmp_path)


@pytest.fixture
def server():
    """An address, and what it answers: path -> bytes; a length that is not theirs may be claimed."""
    answers: dict[str, bytes] = {}
    claims: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = answers.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(claims.get(self.path, len(body or b""))))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", answers, claims
        serving.shutdown()
        thread.join()


def zipped(files):
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as file:
        for name, rows in files.items():
            file.writestr(name, as_bytes(name, rows))
    return packed.getvalue()


def tarred(files):
    with tarfile.open(fileobj=(packed := io.BytesIO()), mode="w:gz") as file:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def through(server_address, monkeypatch):
    """Send every request to the test's own server, by its path; none may wait longer than five seconds."""
    real = hub.urlopen

    def other(url, timeout):
        assert timeout <= 5
        return real(f"{server_address}/{url.rpartition('/')[2]}", timeout=timeout)

    monkeypatch.setattr(hub, "urlopen", other)


def test_an_archive_at_an_address_is_fetched_once_and_unpacked(tmp_path, server, monkeypatch):
    address, answers, _ = server
    through(address, monkeypatch)
    answers["/simclue_public.zip"] = zipped(MINIATURES["simclue_triplets"])
    options = {"recipe": "simclue_triplets", "raw": tmp_path / "raw", "accept_licence": True}
    assert len(judged(fetch(tmp_path / "out", **options))) == 2
    answers.clear()
    assert len(judged(fetch(tmp_path / "again", **options))) == 2


def test_a_repository_of_github_comes_as_an_archive_of_its_commit(tmp_path, server, monkeypatch):
    address, answers, _ = server
    through(address, monkeypatch)
    recipe = load_recipe("multi_cpr_medical")
    files = {
        f"Multi-CPR-a4e4/{name}": as_bytes(name, rows)
        for name, rows in MINIATURES["multi_cpr_medical"].items()
    }
    answers[f"/{recipe.revision}"] = tarred(files)
    out = fetch(tmp_path / "out", recipe="multi_cpr_medical", raw=tmp_path / "raw", accept_licence=True)
    assert [row["id"] for row in table(out, "corpus")] == ["11", "12", "13"]
    assert {row["origin"] for row in table(out, "qrels")} == {"Multi-CPR-a4e4/data/medical/qrels.train.tsv"}


def test_an_archive_among_the_files_is_unpacked_and_one_that_is_unpacked_already_is_read(tmp_path):
    whole = write_all(tmp_path / "unpacked", MINIATURES["bge_m3"])
    found = judged(fetch(tmp_path / "out", recipe="bge_m3", from_=whole, accept_licence=True))
    assert found == {("q", "p", 1), ("q", "n", 0), ("q2", "p2", 1), ("q2", "p3", 1)}
    (tmp_path / "packed").mkdir()
    files = {name: as_bytes(name, rows) for name, rows in MINIATURES["bge_m3"].items()} | {
        "../evil.jsonl": b"{}"
    }
    (tmp_path / "packed/bge-m3-data.tar.gz").write_bytes(tarred(files))
    assert (
        judged(fetch(tmp_path / "other", recipe="bge_m3", from_=tmp_path / "packed", accept_licence=True))
        == found
    )
    (tmp_path / "packed/bge-m3-data.tar.gz").write_bytes(tarred(files)[:200])
    with pytest.raises(
        UserError, match=r"bge-m3-data\.tar\.gz: cannot be unpacked .*; remove it and fetch it again"
    ):
        fetch(tmp_path / "cut", recipe="bge_m3", from_=tmp_path / "packed", accept_licence=True)


@pytest.mark.parametrize(
    ("claim", "told"), [(None, "404 Not Found; correct repository"), (900, "ended after 3 of 900 bytes")]
)
def test_what_an_address_does_not_give_is_told_and_not_kept(claim, told, tmp_path, server, monkeypatch):
    address, answers, claims = server
    through(address, monkeypatch)
    if claim:
        answers["/a.zip"], claims["/a.zip"] = b"abc", claim
    values = {"importer": "pairs", "files": {"records": {"path": "a.jsonl"}}, "task": "ir"}
    recipe = parse_recipe("mine", values | {"repository": "https://example.org/a.zip"}, "mine.yaml")
    with pytest.raises(UserError, match=told):
        hub.download(recipe, tmp_path / "raw")
    assert not (tmp_path / "raw/a.zip").exists()


def test_an_address_out_of_reach_is_told(tmp_path, monkeypatch):
    through("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(UserError, match=r"simclue_public\.zip is out of reach; .*--from FOLDER"):
        hub.download(load_recipe("simclue_pairs"), tmp_path)
