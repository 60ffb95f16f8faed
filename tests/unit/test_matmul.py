"""Matrix products in C against torch's."""

import time
from collections.abc import Iterator

import pytest
import torch

from nextword.models.c_library import compiler
from nextword.models.matmul import DEPTH, Packed, available, in_threads, matmul

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler")
SHAPES = [(1, 1, 1), (7, 5, 3), (8, 16, 48), (9, 17, 50), (20, 100, 300), (33, DEPTH + 1, 131)]
TYPES = [
    (torch.float64, torch.float64, 1e-12),
    (torch.float32, torch.float32, 1e-4),
    (torch.float32, torch.bfloat16, 2**-7),
]


@pytest.fixture(params=[1, 3], ids=["one thread", "threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def layouts(rows: int, columns: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """The same shape as it comes, transposed, and as columns of something wider."""
    return [
        torch.randn(rows, columns).to(dtype),
        torch.randn(columns, rows).to(dtype).t(),
        torch.randn(rows, columns + 4).to(dtype)[:, 2:-2],
    ]


@pytest.mark.parametrize(("rows", "inner", "columns"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matmul(rows: int, inner: int, columns: int, dtype: torch.dtype, threads: None) -> None:
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    for x in layouts(rows, inner, dtype):
        for y in layouts(inner, columns, dtype):
            torch.testing.assert_close(matmul(x, y), x @ y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("rows", "inner", "columns"), SHAPES)
@pytest.mark.parametrize(("real", "low", "tolerance"), TYPES)
def test_packed(rows: int, inner: int, columns: int, real: torch.dtype, low: torch.dtype, tolerance: float) -> None:
    """Beside the result nothing is written, and it can be added to."""
    for matrix in layouts(inner, columns, low):
        packed = Packed(matrix, real)
        for x in layouts(rows, inner, low):
            exact = x.double() @ matrix.double()
            wide = torch.full((rows, columns + 2), 7.0, dtype=low)
            packed.multiply(x, wide[:, 1:-1])
            scale = tolerance * inner**0.5
            torch.testing.assert_close(wide[:, 1:-1].double(), exact, rtol=tolerance, atol=scale)
            assert (wide[:, [0, -1]] == 7).all()
            packed.multiply(x, wide[:, 1:-1], add=True)
            torch.testing.assert_close(wide[:, 1:-1].double(), 2 * exact, rtol=2 * tolerance, atol=4 * scale)


def test_infinity_and_nan_stay() -> None:
    x, y = torch.ones(3, 5), torch.ones(5, 4)
    x[1, 2], y[0, 3] = torch.nan, torch.inf
    product = matmul(x, y)
    assert product[1].isnan().all() and (product[[0, 2], 3] == torch.inf).all() and (product[[0, 2], :3] == 5).all()


def test_nothing_to_sum_up_is_zero() -> None:
    assert torch.equal(matmul(torch.empty(3, 0), torch.empty(0, 4)), torch.zeros(3, 4))


def test_results_of_threads_come_in_the_order_of_their_parts(threads: None) -> None:
    def run(start: int, stop: int) -> tuple[int, int]:
        time.sleep(0.02 * (start == 0))  # the first one ends last
        return start, stop

    count = torch.get_num_threads()
    assert in_threads(run, 9) == [(9 * k // count, 9 * (k + 1) // count) for k in range(count)]


def test_what_it_is_for() -> None:
    x = torch.randn(2, 2)
    assert available(x) and available(x.double(), x.double())
    assert not available(x, x.double()) and not available(x.bfloat16())
