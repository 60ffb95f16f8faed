"""Columns and segments: every token where it belongs, once."""

from typing import Any

import numpy as np
import pytest
import torch

from nextword.text.streams import Columns, segment_windows
from nextword.training import data
from nextword.training.data import OnDevice, OnHost


def test_columns_read_each_column_as_one_text() -> None:
    windows = list(Columns(np.arange(23, dtype=np.uint16), batch_size=4, bptt=2))
    assert [w.shape for w in windows] == [(2, 4), (2, 4), (1, 4)]
    np.testing.assert_array_equal(np.concatenate(windows).T, np.arange(20).reshape(4, 5))


def test_ranks_share_the_columns() -> None:
    whole = list(Columns(np.arange(24), 4, 3))
    parts = [list(Columns(np.arange(24), 4, 3, rank, 2)) for rank in range(2)]
    for window, *halves in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(window, np.concatenate(halves, axis=1))


def test_columns_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="fewer than batch_size 4"):
        Columns(np.arange(3), 4, 2)
    with pytest.raises(ValueError, match="does not divide by 3 devices"):
        Columns(np.arange(30), 4, 2, 0, 3)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("length", [120, 125])  # in whole columns, and with some tokens in none
def test_columns_say_where_documents_begin(length: int, world_size: int) -> None:
    ids = np.arange(length)
    starts = np.array([0, 3, 20, 21, 22, 22, 60, 79, 119, length])  # 22 twice: one is empty
    for rank in range(world_size):
        columns = Columns(ids, 6, 7, rank, world_size, starts=starts)
        for epoch in range(3):
            for number, window in enumerate(columns):
                begins = np.isin(window, starts).any(0)  # ids are their own places
                found = columns.begins(number)
                assert (found is None) == (not begins.any())
                assert found is None or found.tolist() == begins.tolist()
            columns.cut_anew(3, epoch)
        assert Columns(ids, 6, 7, rank, world_size).begins(0) is None


@pytest.mark.parametrize("batch_size", [1, 2, 7])
@pytest.mark.parametrize("steps", [1, 3, 100])
@pytest.mark.parametrize("world_size", [1, 2])
def test_segments_give_every_token_once(batch_size: int, steps: int, world_size: int) -> None:
    ids = np.arange(100, 140)
    starts = np.array([0, 5, 6, 6, 20, 29, 40])  # one segment is empty
    seen: list[int] = []
    for rank in range(world_size):
        for window in segment_windows(ids, starts, batch_size, steps, rank, world_size):
            kept = window.place >= 0
            assert window.tokens.shape[0] <= steps and window.tokens.shape[1] <= batch_size
            np.testing.assert_array_equal(window.tokens[kept], ids[window.place[kept]])
            assert np.all(np.diff(window.place, axis=0)[kept[1:]] == 1)
            assert not window.first or np.isin(window.place[0], starts).all()
            seen += window.place[kept].tolist()
    assert sorted(seen) == list(range(40))


@pytest.mark.parametrize(("length", "bptt"), [(70, 70), (71, 70), (140, 70), (20_000, 70), (41, 20), (3_000, 20)])
def test_windows_cut_anew_are_as_many_and_hold_the_same_text(length: int, bptt: int) -> None:
    columns = Columns(np.arange(3 * length), 3, bptt)
    plain = np.concatenate(list(columns))
    for epoch in range(50):
        columns.cut_anew(7, epoch)
        windows = list(columns)
        assert len(windows) == len(columns) == -(-length // bptt)
        assert min(map(len, windows)) > 0
        np.testing.assert_array_equal(np.concatenate(windows), plain)


def test_windows_cut_anew_have_the_lengths_of_the_paper() -> None:
    columns, other = (Columns(np.zeros(2 * 700_000, np.uint16), 2, 70) for _ in range(2))
    columns.cut_anew(0, 1)
    lengths = np.diff(columns.cuts)
    assert abs(np.mean(lengths < 52) - 0.05) < 0.01
    usual = lengths[lengths >= 52] * (0.95 * 70 + 0.05 * 35) / 70  # as drawn, before they were stretched
    assert abs(usual.mean() - 70) < 0.5 and abs(usual.std() - 5) < 0.3
    other.cut_anew(0, 1)
    np.testing.assert_array_equal(other.cuts, columns.cuts)
    other.cut_anew(0, 2)
    assert (other.cuts != columns.cuts).any()


@pytest.mark.parametrize("kind", [OnDevice, OnHost])
def test_windows_as_tensors_are_those_of_the_columns(kind: Any) -> None:
    ids = np.random.default_rng(0).integers(40_000, size=1003).astype(np.uint16)
    columns = Columns(ids, 6, 20, rank=1, world_size=2, starts=np.array([0, 600, 610, 900, 1003]))
    placed = kind(columns, torch.device("cpu"))
    for epoch in range(3):
        for number, window in enumerate(columns):
            tokens, begins = placed[number]
            assert tokens.dtype == torch.int64 and tokens.is_contiguous()
            assert np.array_equal(tokens.numpy(), window)
            assert begins is None or begins.tolist() == columns.begins(number).tolist()
            assert (begins is None) == (columns.begins(number) is None)
        columns.cut_anew(5, epoch)


def test_ids_go_to_a_gpu_where_it_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Columns(np.arange(1000, dtype=np.uint16), 4, 10, part, 2) for part in range(2)]
    bytes_needed = 4 * 1000
    monkeypatch.setattr(data, "OnDevice", lambda columns, device: "device")
    for free, expected in ((8 * bytes_needed, "device"), (8 * bytes_needed - 1, OnHost)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**12))
        placed = data.place(parts, torch.device("cuda", 0))
        assert len(placed) == 2 and all(one == expected or type(one) is expected for one in placed)
    assert [type(one) for one in data.place(parts, torch.device("cpu"))] == [OnHost, OnHost]
