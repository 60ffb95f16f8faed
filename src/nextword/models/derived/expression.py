"""Scalar expressions: what a pointwise function computes for one unit, and its derivatives.

An :class:`Expression` stands in for a (B, H) tensor when a cell's step is traced: arithmetic and the torch functions in
``FUNCTIONS`` build a graph instead of computing. Equal expressions are one object, so nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch


class NotTraceable(Exception):
    """A step did something that has no expression."""


class Expression:
    """A node: an operation and its arguments; ``input`` with a name, or ``constant`` with a number, has none."""

    _known: ClassVar[dict[tuple[Any, ...], Expression]] = {}

    op: str
    args: tuple[Expression, ...]
    value: str | float

    def __new__(cls, op: str, *args: Expression, value: str | float = "") -> Expression:
        """The one node of this operation on these arguments."""
        key = (op, value, *map(id, args))
        if key not in cls._known:
            node = super().__new__(cls)
            node.op, node.args, node.value = op, args, value
            cls._known[key] = node
        return cls._known[key]

    def __add__(self, other: Any) -> Expression:
        other = expression(other)
        return other if self is ZERO else self if other is ZERO else Expression("add", self, other)

    def __sub__(self, other: Any) -> Expression:
        other = expression(other)
        return self if other is ZERO else Expression("sub", self, other)

    def __mul__(self, other: Any) -> Expression:
        other = expression(other)
        if ZERO in (self, other):
            return ZERO
        return other if self is ONE else self if other is ONE else Expression("mul", self, other)

    def __truediv__(self, other: Any) -> Expression:
        return Expression("div", self, expression(other))

    def __neg__(self) -> Expression:
        return ZERO - self

    def __rsub__(self, other: Any) -> Expression:
        return expression(other) - self

    def __rtruediv__(self, other: Any) -> Expression:
        return expression(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def __bool__(self) -> bool:
        raise NotTraceable("a step decides by a value of its tensors")

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Build a node for ``func`` where it is known."""
        if func not in FUNCTIONS or kwargs:
            raise NotTraceable(f"{getattr(func, '__name__', func)} is not pointwise, or not known")
        return FUNCTIONS[func](*args)


def expression(value: Any) -> Expression:
    """``value`` itself, or a constant."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, int | float):
        return Expression("constant", value=float(value))
    raise NotTraceable(f"{type(value).__name__} among the operands")


ZERO, ONE = expression(0.0), expression(1.0)


def named(name: str) -> Expression:
    """An input."""
    return Expression("input", value=name)


def _unary(op: str) -> Callable[[Any], Expression]:
    return lambda x: Expression(op, expression(x))


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    torch.sigmoid: _unary("sigmoid"),
    torch.tanh: _unary("tanh"),
    torch.relu: _unary("relu"),
    torch.exp: _unary("exp"),
    torch.neg: lambda x: -x,
    torch.add: lambda x, y: x + y,
    torch.sub: lambda x, y: x - y,
    torch.mul: lambda x, y: x * y,
    torch.div: lambda x, y: x / y,
    torch.square: lambda x: x * x,
    torch.lerp: lambda start, end, weight: start + weight * (end - start),
    torch.addcmul: lambda x, y, z: x + y * z,
}
"""torch functions that a traced step may call."""


def _sigmoid(y: Expression, x: Expression) -> tuple[Expression, ...]:
    return (y * (ONE - y),)


DERIVATIVES: dict[str, Callable[..., tuple[Expression, ...]]] = {
    "add": lambda y, a, b: (ONE, ONE),
    "sub": lambda y, a, b: (ONE, expression(-1.0)),
    "mul": lambda y, a, b: (b, a),
    "div": lambda y, a, b: (ONE / b, ZERO - y / b),
    "sigmoid": _sigmoid,
    "tanh": lambda y, x: (ONE - y * y,),
    "relu": lambda y, x: (Expression("positive", y),),
    "exp": lambda y, x: (y,),
    "positive": lambda y, x: (ZERO,),
}
"""By operation: its derivative by each argument, from its result and its arguments."""


def ordered(roots: Iterable[Expression]) -> list[Expression]:
    """All nodes under ``roots``, arguments before what uses them."""
    found: dict[int, Expression] = {}
    stack = [(root, False) for root in roots]
    while stack:
        node, ready = stack.pop()
        if id(node) in found:
            continue
        if ready:
            found[id(node)] = node
        else:
            stack.append((node, True))
            stack += [(arg, False) for arg in node.args]
    return list(found.values())


def pull_back(outputs: Mapping[Expression, Expression]) -> dict[Expression, Expression]:
    """Adjoint of every node under the outputs.

    Args:
        outputs: nodes and their adjoints.
    """
    adjoint: dict[Expression, Expression] = {}
    for node, d in outputs.items():
        adjoint[node] = adjoint.get(node, ZERO) + d
    for node in reversed(ordered(outputs)):
        if node.args and node in adjoint:
            for arg, partial in zip(node.args, DERIVATIVES[node.op](node, *node.args), strict=True):
                adjoint[arg] = adjoint.get(arg, ZERO) + adjoint[node] * partial
    return adjoint
