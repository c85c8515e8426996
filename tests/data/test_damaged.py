"""Photos that cannot be used and photos whose metadata alone are bad: told apart, and looked at once."""
import json
import struct

import pytest
from PIL import Image, ImageOps

from gre.config import UserError
from gre.data import photos
from gre.data.images import load_image, picture_size
from gre.data.raw import DataError, RowError
from tests.helpers.damaged import DAMAGED, WHOLE, jpeg, png


@pytest.fixture
def folder(tmp_path):
    for name, (content, _) in {**DAMAGED, **WHOLE}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("name", WHOLE)
def test_metadata_spoil_no_photo(folder, name):
    assert load_image(folder / name).size == WHOLE[name][1]
    assert sorted(picture_size(folder / name)) == [48, 64]


def test_pillow_itself_refuses_what_is_read_here(folder):
    for name, error in (("signed.jpg", struct.error), ("comment.png", ValueError), ("profile.png", ValueError)):
        with pytest.raises(error), Image.open(folder / name) as opened:
            ImageOps.exif_transpose(opened)


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_wrong_with_a_photo_is_said(folder, name):
    faults, whole = photos.look_at([folder / name], set(), show=False)
    with pytest.raises(RowError, match=DAMAGED[name][1]):
        raise RowError(faults[folder / name])
    assert faults[folder / name].startswith(str(folder / name)) and whole == set()


def test_a_whole_photo_is_decoded_once_and_a_damaged_one_again(folder, tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(photos, "decode", lambda content, path: decoded.append(path.name) or load_image(path))
    paths = [folder / "empty.jpg", folder / "exif.jpg", folder / "strip.png"]
    memory = tmp_path / "run" / "whole_photos.json"
    for _ in range(2):
        faults, whole = photos.look_at(paths, photos.known_whole(memory), show=False)
        photos.remember(memory, whole)
        assert set(faults) == {paths[0], paths[2]}
    assert sorted(decoded) == ["empty.jpg", "empty.jpg", "exif.jpg", "strip.png", "strip.png"]
    (folder / "exif.jpg").write_bytes(jpeg()[:700])  # another content under the old name
    assert paths[1] in photos.look_at(paths, photos.known_whole(memory), show=False)[0]
    memory.write_text(json.dumps({"pillow": "1.0", "whole": ["x"]}))
    assert photos.known_whole(memory) == set()
    memory.write_text("[")
    with pytest.raises(UserError, match="whole_photos.json does not list whole photos .*delete it"):
        photos.known_whole(memory)


def test_a_disk_that_fails_is_no_bad_row(folder, monkeypatch):
    def read_bytes(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pathlib.Path.read_bytes", read_bytes)
    monkeypatch.setattr(photos, "photo_hash", read_bytes)
    with pytest.raises(DataError, match="exif.jpg: cannot be read .*Input/output error.*its disk") as raised:
        photos.look_at([folder / "exif.jpg"], set(), show=False)
    assert not isinstance(raised.value, RowError)


def test_a_strip_of_200_to_1_is_a_photo(tmp_path):
    (tmp_path / "a.png").write_bytes(png((2000, 10)))
    assert picture_size(tmp_path / "a.png") == (2000, 10)
    (tmp_path / "a.png").write_bytes(png((2001, 10)))
    with pytest.raises(RowError, match="2001 x 10 pixels"):
        picture_size(tmp_path / "a.png")
