"""CUDA graphs and memory pools of a script's own: memory that is kept for one purpose.

What is captured for a graph takes its memory from a pool of its own, which nothing else may use as
long as the graph lives: each replay works in it (torch/csrc/cuda/Graph.cpp, and "private pools" in
c10/cuda/CUDACachingAllocator.cpp). In the simulated allocator, a private pool is that of a stream
with a negative number. Such pools are kept until the end, also those that a script gives up.
"""

import contextlib
import itertools

import torch

from vramcast.device.streams import Stream, take_all
from vramcast.memory.tracker import Tracker
from vramcast.where import here

GRAPHED = (
    "torch.cuda.make_graphed_callables: predicted as if nothing were captured; what its graphs "
    "keep from step to step is not counted"
)
_numbers = itertools.count(-1, -1)


class Pool:
    """In the place of `torch.cuda.MemPool`."""

    def __init__(self, *args, **kwargs) -> None:
        self.number = next(_numbers)

    @property
    def id(self) -> tuple[int, int]:
        return 0, -self.number

    def use_count(self) -> int:
        return 1

    def snapshot(self, include_traces: bool = True) -> list:
        return []


class Graph:
    """In the place of `torch.cuda.CUDAGraph`. A replay allocates nothing."""

    def __new__(cls, *args, **kwargs) -> "Graph":
        return super().__new__(cls)

    def __init__(self, keep_graph: bool = False) -> None:
        self.place: Stream | None = None

    def capture_begin(self, pool=None, *args, **kwargs) -> None:
        self.place = Stream.numbered(_number(pool))
        self.place.__enter__()

    def capture_end(self) -> None:
        self.place.__exit__()

    def pool(self) -> tuple[int, int]:
        return 0, -self.place.number

    def replay(self, *args, **kwargs) -> None:
        pass

    reset = instantiate = enable_debug_mode = debug_dump = register_generator_state = replay
    raw_cuda_graph = raw_cuda_graph_exec = replay


class Capture:
    """In the place of `torch.cuda.graph`, which captures what runs within its context.

    On a stream of its own, on which nothing else is allocated: the pool is the graph's anyway.
    """

    default_capture_stream: Stream | None = None

    def __init__(self, cuda_graph: Graph, pool=None, stream=None, *args, **kwargs) -> None:
        self.cuda_graph, self.pool, self.capture_stream = cuda_graph, pool, stream

    def __enter__(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        self.cuda_graph.capture_begin(self.pool)

    def __exit__(self, *exception) -> None:
        self.cuda_graph.capture_end()


def _number(pool: object) -> int:
    """The number of a pool, of its handle, or of a new one."""
    if isinstance(pool, (Pool, Graph)):
        return pool.number if isinstance(pool, Pool) else pool.place.number
    return -pool[1] if pool else next(_numbers)


def install(tracker: Tracker, notes: list[str]) -> None:
    """Let a script find them."""

    @contextlib.contextmanager  # by which Dynamo finds the function that is wrapped
    def use_mem_pool(pool, device=None):
        with Stream.numbered(pool.number):
            yield

    def make_graphed_callables(callables, sample_args, *args, **kwargs):
        notes.append(f"{here()}{GRAPHED}")
        return callables

    take_all(Graph, torch.cuda.CUDAGraph)
    take_all(Pool, torch.cuda.MemPool)
    replacements = {
        "CUDAGraph": Graph, "MemPool": Pool, "graph": Capture, "use_mem_pool": use_mem_pool,
        "make_graphed_callables": make_graphed_callables, "graph_pool_handle": lambda: Pool().id,
        "is_current_stream_capturing": torch.cuda.is_current_stream_capturing,
    }  # fmt: skip
    for place in (torch.cuda, torch.cuda.memory, torch.cuda.graphs):
        for name, value in replacements.items():
            if hasattr(place, name):
                setattr(place, name, value)
