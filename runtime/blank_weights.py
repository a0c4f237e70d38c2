"""`BlankWeights`: modules are made without initial weights where nobody would read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_FILLS: frozenset[Callable[..., Any]] = frozenset(
    {
        Tensor.normal_,
        Tensor.uniform_,
        Tensor.fill_,
        Tensor.zero_,
        nn.init.kaiming_uniform_,  # those of nn.init that a mode sees themselves
        nn.init.normal_,
        nn.init.uniform_,
        nn.init.constant_,
    }
)


class BlankWeights(TorchFunctionMode):
    """Parameters of modules that are made within keep whatever memory held; torch's generator is not drawn from.

    Only parameters are left so: buffers and other tensors have their values. Whoever makes a module so must set every
    parameter. (The meta device would do as well, but fills there take longer than here, and buffers would be lost.)
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLS:
            filled = args[0] if args else kwargs.get("tensor")
            if isinstance(filled, nn.Parameter):
                return filled
        return func(*args, **kwargs)
