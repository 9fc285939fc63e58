from pathlib import Path

import pytest

from affinage.engines.digest import base_digest, file_digest
from affinage.errors import UnknownObjectError


def write_base(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in {"config.json": "{}", "model.safetensors": "weights", "tokenizer.json": "words", **files}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_digest_does_not_depend_on_where_the_base_lies(tmp_path: Path) -> None:
    assert base_digest(write_base(tmp_path / "a")) == base_digest(write_base(tmp_path / "b"))


def test_a_readme_does_not_count(tmp_path: Path) -> None:
    assert base_digest(write_base(tmp_path / "a")) == base_digest(write_base(tmp_path / "b", **{"README.md": "read me"}))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "more.safetensors"])
def test_each_decisive_file_counts(tmp_path: Path, name: str) -> None:
    assert base_digest(write_base(tmp_path / "a")) != base_digest(write_base(tmp_path / "b", **{name: "altered"}))


def test_bytes_moved_from_one_file_to_the_next_change_the_digest(tmp_path: Path) -> None:
    first = write_base(tmp_path / "a", **{"model-1.safetensors": "xy", "model-2.safetensors": "z"})
    second = write_base(tmp_path / "b", **{"model-1.safetensors": "x", "model-2.safetensors": "yz"})
    assert base_digest(first) != base_digest(second)


def test_a_folder_without_weights_is_not_a_base(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UnknownObjectError, match=str(tmp_path)):
        base_digest(tmp_path)
    with pytest.raises(UnknownObjectError):
        base_digest(tmp_path / "absent")


def test_a_file_digest_is_plain_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    # FIPS 180-4, example for "abc".
    assert file_digest(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
