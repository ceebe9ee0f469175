"""JSON files that carry their hash: no single flipped bit is taken for something else."""

import json
import math

import numpy as np
import pytest

from juliagpt_jax.data import query
from juliagpt_jax.ground import files, sealed
from juliagpt_jax.ground.errors import StorageError, UserError

VALUES = {"lr": 0.002, "name": "Größe ☃", "nested": {"b": [1, None, True], "a": "x"}, "text": "one\ntwo"}


def test_what_is_written_is_read_and_has_a_hash(tmp_path):
    path = tmp_path / "v.json"
    sealed.write_json(path, VALUES | {"odd": math.nan, 5: (1, 2)})
    assert sealed.read_json(path) == VALUES | {"odd": None, "5": [1, 2]}
    assert list(json.loads(path.read_text()))[-1] == "sha256"


def test_every_single_flipped_bit_is_refused_or_without_effect(tmp_path):
    path = tmp_path / "v.json"
    sealed.write_json(path, VALUES, ascii_only=False)
    raw, refused = path.read_bytes(), 0
    for at in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                assert sealed.read_json(path) == VALUES, (at, bit)
            except (ValueError, sealed.Changed):
                refused += 1
    assert refused > 0.9 * 8 * len(raw)


@pytest.mark.parametrize("change", [{"lr": 0.003}, {"more": 1}, {"sha256": "0" * 64}, {"nested": {}}])
def test_another_value_is_named_with_the_way_out(change, tmp_path):
    path = tmp_path / "v.json"
    path.write_text(json.dumps(sealed.seal(VALUES) | change))
    with pytest.raises(sealed.Changed, match=r"v\.json: changed since it was written.*put a sound copy back.*take the"):
        sealed.read_json(path)


def test_blanks_and_order_do_not_count_and_an_older_file_opens(tmp_path):
    path = tmp_path / "v.json"
    path.write_text(json.dumps(sealed.seal(VALUES), sort_keys=True))
    assert sealed.read_json(path) == VALUES
    path.write_text(json.dumps(VALUES))
    assert sealed.read_json(path) == VALUES
    path.write_text(json.dumps([1, np.pi]))
    assert sealed.read_json(path) == [1, np.pi]


def test_every_single_flipped_bit_of_rows_is_refused(tmp_path):
    """The hash is a row's own: rows that are added, or an older version's, need no other file."""
    path, rows = tmp_path / "v.jsonl", [{"arm": "a", "loss": 1.5}, {"arm": "b", "loss": None}]
    assert sealed.read_rows(path) == []
    sealed.write_rows(path, [rows[0], rows[1] | {"loss": math.nan}])
    assert sealed.read_rows(path) == rows
    raw = path.read_bytes()
    for at in range(len(raw)):
        for bit in (at % 8, (at + 3) % 8):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :])
            with pytest.raises(StorageError, match=r"v\.jsonl:[12]: (changed since|not a row).*take the line out"):
                sealed.read_rows(path)
    path.write_text(json.dumps(rows[0]) + "\n" + json.dumps(sealed.seal(rows[1])))
    assert sealed.read_rows(path) == rows, "a row of an older version, and one without an end"


def test_every_flipped_bit_of_an_archive_of_arrays_is_refused_or_without_effect(tmp_path):
    """Whatever a flipped bit makes of it: a password, a petabyte, another method. No other exception than one."""
    path, arrays = tmp_path / "v.npz", {"a": np.arange(3.0), "b": np.array("x")}
    files.write_arrays(path, arrays)
    raw, refused = path.read_bytes(), 0
    shown = lambda arrays: {name: (array.dtype, array.tolist()) for name, array in arrays.items()}
    for at in range(len(raw)):
        for bit in (at % 8, (at + 3) % 8):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :])
            try:
                assert shown(files.read_arrays(path)) == shown(arrays), (at, bit)
            except ValueError:
                refused += 1
    assert refused > 0.5 * 2 * len(raw)
    with pytest.raises(FileNotFoundError):
        files.read_arrays(tmp_path / "none.npz")


def test_values_nested_too_deeply_are_not_json(tmp_path):
    """No reader of such a file meets another kind of error than of any damage."""
    (tmp_path / "a.json").write_text('{"weights": ' + "[" * 5_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        sealed.read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="not a file of weights"):
        query.parse_weights(str(tmp_path / "a.json"), "phase")


@pytest.mark.parametrize("mapped", [False, True])
def test_a_flipped_bit_in_the_header_of_an_array_ends_in_one_kind_of_error(tmp_path, mapped):
    """The header of an .npy file is a line of Python: what is left of it may be any other, and no file of arrays."""
    path, array = tmp_path / "a.npy", np.arange(40, dtype=np.uint16)
    np.save(path, array)
    raw, refused = path.read_bytes(), 0
    for at in range(len(raw) - array.nbytes):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                assert isinstance(files.read_array(path, mapped), np.ndarray)
            except ValueError as error:
                refused += str(error) != ""
    assert refused > 300
    with pytest.raises(ValueError, match="FileNotFoundError"):
        files.read_array(tmp_path / "none.npy", mapped)
