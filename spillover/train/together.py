"""One training in several processes: each computes a share of every step, and all make the same update.

`accelerate launch` has started them (`work.launch`), a device for each. What crosses processes is here, and nothing
else of a training knows how it is done. A process computes the gradient of its own share, divided by what the whole
step counts. So the gradient of the step is the sum over processes, whatever the shares are.

`ddp`: each process holds the whole model. Gradients are summed once, after the last pass of a step. The hooks of
`DistributedDataParallel` are left aside: they reduce in the middle of one backward pass, and a step has several; they
want each pass to go through a wrapper, and they divide by the processes. One sum needs none of this and is exact.

`fsdp`: weights, gradients and moments are cut into as many parts as there are processes (PyTorch's `fully_shard`, layer
by layer). Every pass gathers a layer's weights from all, so all must make equally many passes. Gradients are summed as
each backward pass ends. Backends have differed in what that sum is, so it is measured at the start (`_measured`).
A model is cut once its weights are loaded, so at first it stands whole on each device.

Files are written by the first process alone, and hold whole tensors. So a checkpoint fits any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from ..engine.hf import device
from ..text.samples import Sample
from ..text.steps import dealt

Found = TypeVar("Found")
Parallel = Literal["ddp", "fsdp"]

LONGEST_WAIT = timedelta(hours=2)  # for another process: it may write a large checkpoint


@dataclass(eq=False)
class Together:
    """What a process does together with the others. By default it is alone, and every method does nothing.

    `number` counts the processes from 0. A loss is multiplied by `scale` before its backward pass.
    """

    processes: int = 1
    number: int = 0
    parallel: Parallel = "ddp"
    backend: str | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    scale: float = 1.0

    @classmethod
    def begin(cls, parallel: Parallel) -> Together:
        """Meet the other processes that the launcher has started."""
        from accelerate import PartialState

        state = PartialState(cpu=device().type == "cpu", timeout=LONGEST_WAIT)
        return cls(state.num_processes, state.process_index, parallel, str(state.backend), state.device)

    @property
    def several(self) -> bool:
        return self.processes > 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.number == 0

    @property
    def cuts(self) -> bool:
        """Whether each process holds a part of every weight."""
        return self.several and self.parallel == "fsdp"

    def share(self, samples: Sequence[Sample], shares: bool) -> list[Sample]:
        """The samples of this process."""
        return dealt(samples, self.processes, shares)[self.number] if self.several else list(samples)

    # --- numbers and objects ------------------------------------------------------------------------------

    def sums(self, *numbers: float) -> list[float]:
        """Numbers summed over the processes, in their order: the result is the same in each of them."""
        return [sum(column) for column in zip(*self._gathered(numbers), strict=True)]

    def most(self, number: int) -> int:
        """The largest of a number of each process."""
        return int(max(numbers[0] for numbers in self._gathered([number])))

    def _gathered(self, numbers: Sequence[float]) -> list[list[float]]:
        if not self.several:
            return [[*numbers]]
        own = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        every = [torch.empty_like(own) for _ in range(self.processes)]
        dist.all_gather(every, own)
        return [one.tolist() for one in every]

    def every(self, own: Found) -> list[Found]:
        """An object of each process."""
        found: list[Any] = [own]
        if self.several:
            found = [None] * self.processes
            dist.all_gather_object(found, own)
        return found

    def joined(self, own_T: Tensor) -> Tensor:
        """Numbers of all processes, one after the other, on the CPU."""
        return torch.cat(self.every(own_T.cpu())) if self.several else own_T

    def first(self, ask: Callable[[], Found]) -> Found:
        """What the first process finds. The others wait for it."""
        if not self.several:
            return ask()
        found = [ask() if self.is_first else None]
        dist.broadcast_object_list(found, 0)
        return found[0]  # type: ignore[return-value]

    # --- weights and gradients ----------------------------------------------------------------------------

    def prepare(self, model: nn.Module) -> None:
        """Give all processes the weights of the first, and each its part of them if they are cut."""
        if self.several:
            for weight in model.parameters():
                if weight.requires_grad:
                    dist.broadcast(weight.data, 0)
        if self.cuts:
            layers = tuple(getattr(model, "_no_split_modules", None) or ())
            for module in [*model.modules()]:
                if type(module).__name__ in layers:
                    self._cut(module)
            self._cut(model)
            self.scale = self.processes / self._measured()

    def _cut(self, module: nn.Module) -> Any:
        cut = fully_shard(module, mesh=init_device_mesh(self.device.type, (self.processes,)))
        cut.set_force_sum_reduction_for_comms(True)
        cut.set_gradient_divide_factor(1.0)
        return cut

    def _measured(self) -> float:
        """What comes of a gradient that is 1 in each process: their number, if gradients are summed."""
        probe = nn.Linear(1, self.processes, bias=False, device=self.device)
        self._cut(probe)(torch.ones(1, 1, device=self.device)).sum().backward()
        found: Any = probe.weight.grad
        return float(found.full_tensor().mean())

    def sum_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of whole weights. A weight that no process used has none afterwards, either."""
        if not self.several:
            return
        moving = [weight for weight in weights if weight.requires_grad]
        used = torch.tensor([weight.grad is not None for weight in moving], dtype=torch.uint8, device=self.device)
        dist.all_reduce(used, dist.ReduceOp.MAX)
        under_way = []
        for weight, is_used in zip(moving, used.tolist(), strict=True):
            if is_used:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad.contiguous()
                under_way.append(dist.all_reduce(weight.grad, async_op=True))
        for sent in under_way:
            sent.wait()

    # --- whole tensors and their parts --------------------------------------------------------------------

    def whole(self, model: nn.Module, moving: bool = False) -> dict[str, Tensor]:
        """The model's state with whole tensors, on the CPU; `moving`: of the weights that move. Empty but in the first.

        All processes must ask. Names of one weight share their tensor.
        """
        if not (self.cuts or self.is_first):
            return {}
        let_go(model)
        found: dict[int, Tensor] = {}
        state = {}
        for name, kept in model.state_dict(keep_vars=True).items():
            if kept.requires_grad or not moving:
                if id(kept) not in found:
                    gathered = whole(kept.detach())
                    found[id(kept)] = gathered if self.is_first else gathered.new_empty(0)
                state[name] = found[id(kept)]
        return state if self.is_first else {}

    def whole_state(self, state: Any) -> Any:
        """An optimiser's state with whole tensors; None but in the first. All processes must ask."""
        gathered = tree_map(lambda one: whole(one) if isinstance(one, DTensor) else one, state)
        return gathered if self.is_first else None


ALONE = Together()


def let_go(model: nn.Module) -> None:
    """Free the weights that a pass has gathered, so that the model's parameters are this process's parts again."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be cut, as a whole, on the CPU. All processes must ask."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def part(tensor: Tensor, weight: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as a weight is."""
    there = tensor.to(weight.device)
    if not isinstance(weight, DTensor):
        return there
    return distribute_tensor(there, weight.device_mesh, weight.placements, src_data_rank=None)


def local(tensor: Tensor) -> Tensor:
    """The numbers that this process holds of a tensor, in its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
