"""A cell's step as expressions: its matrix products in order, what each multiplies, and the new state."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from nextword.models.cells import Cell
from nextword.models.derived.expression import Expression, NotTraceable, expression, named


@dataclass(frozen=True)
class Product:
    """One matrix product."""

    weight: str
    factor: Expression
    """What is multiplied, (B, H)."""
    source: int | None
    """Which state field it is; None where it is computed in the step."""
    blocks: int
    """Rows of the matrix / H."""


@dataclass(frozen=True)
class Step:
    """A traced step. Inputs are named ``a0..``, ``s0..`` (state), ``u0_0..`` (product, block), ``w_NAME`` (vectors)."""

    products: tuple[Product, ...]
    new_state: tuple[Expression, ...]
    vectors: tuple[str, ...]


class _Row:
    """Columns of ``a``: blocks side by side."""

    def __init__(self, blocks: tuple[Expression, ...], size: int) -> None:
        self.blocks, self.size = blocks, size

    def __getitem__(self, key: Any) -> Any:
        rows, columns = key if isinstance(key, tuple) and len(key) == 2 else (None, None)
        if rows not in (slice(None), ...) or not isinstance(columns, slice):
            raise NotTraceable("a is cut in another way than by columns")
        start, stop, step = columns.indices(len(self.blocks) * self.size)
        if step != 1 or start % self.size or stop % self.size:
            raise NotTraceable("columns of a are cut inside a gate")
        return _row(self.blocks[start // self.size : stop // self.size], self.size)


def _row(blocks: tuple[Expression, ...], size: int) -> Any:
    return blocks[0] if len(blocks) == 1 else _Row(blocks, size)


def trace(cell: Cell) -> Step:
    """Trace ``cell.step``.

    Raises:
        NotTraceable: it does something that has no expression.
    """
    size, weights = cell.hidden_size, cell.recurrent_weights()
    for name, weight in weights.items():
        if weight.dim() not in (1, 2) or weight.shape[-1] != size or len(weight) % size:
            raise NotTraceable(f"{name} is {tuple(weight.shape)}, neither (H,) nor (n * H, H) with H = {size}")
    state = cell.State(*[named(f"s{j}") for j in range(len(cell.State._fields))])
    products: list[Product] = []

    def product(name: str) -> Any:
        count = len(weights[name]) // size

        def multiply(v: Any, add: Any = None) -> Any:
            v = expression(v)
            source = next((j for j, field in enumerate(state) if field is v), None)
            blocks = tuple(named(f"u{len(products)}_{i}") for i in range(count))
            products.append(Product(name, v, source, count))
            if add is not None:
                added = add.blocks if isinstance(add, _Row) else add if isinstance(add, tuple) else (add,)
                blocks = tuple(x + y for x, y in zip(added, blocks, strict=True))
            return blocks[0] if count == 1 else blocks

        return multiply

    vectors = tuple(name for name, weight in weights.items() if weight.dim() == 1)
    w = SimpleNamespace(**{name: named(f"w_{name}") if name in vectors else product(name) for name in weights})
    a = _row(tuple(named(f"a{g}") for g in range(len(cell.gates))), size)
    try:
        new = cell.step(a, state, w)
    except (AttributeError, TypeError, ValueError) as error:
        raise NotTraceable(str(error)) from error
    return Step(tuple(products), tuple(map(expression, new)), vectors)
