"""Files are whole or as they were."""

import pytest

from gdro.core.files import write_bytes, write_json, write_text


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"é": [1]})
    assert path.read_bytes() == '{\n "é": [\n  1\n ]\n}\n'.encode()

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_text(path, "later")
    assert path.read_bytes().startswith(b"{")
    write_bytes(path, b"later")
    assert path.read_bytes() == b"later"
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]
