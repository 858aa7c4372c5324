"""joblib's backends for Dask and Ray, with what a sweep needs and they lack.

Their libraries are loaded when a backend is made.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

__all__ = ["GivenUp", "dask_backend", "ray_backend"]


@dataclass(frozen=True)
class GivenUp:
    """What comes in place of a result where a backend has given up an item, and that one alone."""

    item: Any
    fault: str


def dask_backend(client: Any) -> Any:
    """joblib's backend for Dask, which tells of an item that Dask gave up.

    Dask itself does again what was lost with a worker, and gives up what ended several. joblib
    (1.6) does not hear of that and waits for ever.

    Args:
        client: of the cluster.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future[Any]:
            future: Future[Any] = super().submit(func, callback)
            ((_, (item,), _),) = func.items  # batches are of one

            def tell(done: Future[Any]) -> None:
                fault = done.exception()
                if callback is not None and fault is not None:
                    words = " ".join(f"{type(fault).__name__}: {fault}".split())[:300]
                    callback([GivenUp(item, words)])

            future.add_done_callback(tell)
            return future

    return Backend(client=client)


def ray_backend() -> Any:
    """joblib's backend for Ray, whose results may be had one by one.

    It says that they may not, as they may not from joblib's pool of processes, which it stands on.
    """
    from ray.util.joblib.ray_backend import RayBackend

    class Backend(RayBackend):  # type: ignore[misc]
        supports_return_generator = True

    return Backend()
