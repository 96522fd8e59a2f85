"""Files that lie: no more than lost rows and named errors, and nothing is held up."""

import contextlib
import os
import random
import threading

import pytest
from exchange_files import png, read
from hypothesis import given, settings
from hypothesis import strategies as st
from palate.adapters.comparisons import PreferenceStore
from palate.adapters.errors import PreferenceError
from palate.adapters.exchange import Foreign, Lost, import_answers, read_source
from PIL import Image


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["chosen", "rejected", "image_path", "rank", "label", "jpg_0", "jpg_1", "outcome", "prompt_id"]
                ),
                inner,
            )
        ),
    )
)
@settings(max_examples=60, deadline=None)
def test_no_json_at_all_ends_otherwise_than_in_answers_and_named_losses(tmp_path_factory, row):
    folder = tmp_path_factory.mktemp("x")
    assert all(isinstance(one, (Foreign, Lost)) for one in read(folder, "rows.jsonl", row))
    assert all(isinstance(one, (Foreign, Lost)) for one in read(folder, "rows.json", row))


def test_a_damaged_file_of_any_kind_is_lost_rows_or_a_named_error(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.Table.from_pylist([{"chosen": png(1), "rejected": png(2)}])
    parquet.write_table(table, tmp_path / "a.parquet")
    whole, rng = (tmp_path / "a.parquet").read_bytes(), random.Random(0)
    for number in range(160):
        data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else whole)
        for _ in range(rng.randrange(1, 20)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        file = tmp_path / f"b.{('parquet', 'json', 'jsonl', 'csv')[number % 4]}"
        file.write_bytes(bytes(data))
        with contextlib.suppress(PreferenceError):
            assert all(isinstance(one, (Foreign, Lost)) for one in read_source(file))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_among_the_pictures_holds_nothing_up(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    (tmp_path / "rows.jsonl").write_text('{"chosen": "a.png", "rejected": "b.png"}')
    found = []

    def bring():
        with PreferenceStore(tmp_path / "store") as store:
            found.append(import_answers(store, read_source(tmp_path / "rows.jsonl")))

    thread = threading.Thread(target=bring, daemon=True)
    thread.start()
    thread.join(20)
    assert found and (found[0].added, found[0].lost) == (0, 1)
    assert "it is no file" in found[0].why[0].why
