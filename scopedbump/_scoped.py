"""`RegionPool.scoped`: a region for each call of a function, as `current_region()` inside.

- A function's region ends when it returns or raises; a coroutine's when it is done, cancelled or dropped.
- A generator has its region from its first step to its end, however that comes, and the region is current only while
  the generator runs: what goes on between two steps is none of its business. So it is driven step by step, as
  `yield from` does it, with the region current around each step. A close is an exception like any other: where the
  generator stands, GeneratorExit is raised, and what comes of it is passed on.
- A call that never begins (a coroutine that nobody awaits) takes no region.

What is returned is a function of the same kind, which refers to the pool and the function and to nothing else that
could not be sent to another process: where pickle sends functions by their name, and cloudpickle by their content,
both send these.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from ._current import Current
from ._errors import RegionClosedError

if TYPE_CHECKING:
    from ._pool import RegionPool

Function = TypeVar("Function", bound="Callable[..., Any]")


def scoped(pool: RegionPool, function: Function) -> Function:
    """The function, each of its calls in a region of the pool."""
    if isinstance(function, staticmethod):
        return staticmethod(scoped(pool, function.__func__))  # type: ignore[return-value]  # of the same kind
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"scoped takes a function, not {function!r}: write @pool.scoped above its def")
    wrapper = _wrapper_for(function)(pool, function)
    return wraps(function)(wrapper)  # type: ignore[return-value]  # with the same arguments


def _wrapper_for(function: Callable[..., Any]) -> Callable[[RegionPool, Callable[..., Any]], Callable[..., Any]]:
    call = getattr(type(function), "__call__", None)  # of an object that is no function  # noqa: B004
    for is_kind, wrap in (
        (inspect.iscoroutinefunction, _coroutine_function),
        (inspect.isgeneratorfunction, _generator_function),
        (inspect.isasyncgenfunction, _async_generator_function),
    ):
        if is_kind(function) or is_kind(call):
            return wrap
    return _plain_function


def _plain_function(pool: RegionPool, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with pool.region() as region, region.as_current():
            result = function(*args, **kwargs)
        return _usable(result, call)

    return call


def _coroutine_function(pool: RegionPool, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with pool.region() as region, region.as_current():
            result = await function(*args, **kwargs)
        return _usable(result, call)

    return call


def _usable(result: Any, function: Callable[..., Any]) -> Any:
    """The result; an error here if it is a revoked view, for what carries results on would fail far from its cause."""
    if type(result) is memoryview:
        try:
            result.nbytes  # noqa: B018  # it raises
        except ValueError:
            raise RegionClosedError(
                f"{function.__qualname__} returned a view of its region, which has ended: return bytes(view), or a copy"
            ) from None
    return result


def _generator_function(pool: RegionPool, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with pool.region() as region:
            generator = function(*args, **kwargs)
            step: Any = generator.send
            value: Any = None
            while True:
                try:
                    with Current(region):
                        item = step(value)
                except StopIteration as stop:
                    return stop.value
                finally:
                    step = value = None  # an exception that was thrown in would refer to this frame and be kept by it
                try:
                    value = yield item
                    step = generator.send
                except BaseException as error:  # noqa: BLE001  # raised where the generator stands
                    step, value = generator.throw, error
                finally:
                    item = None

    return call


def _async_generator_function(pool: RegionPool, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with pool.region() as region:
            generator = function(*args, **kwargs)
            step: Any = _first_step(generator)
            value: Any = None
            while True:
                try:
                    with Current(region):
                        item = await step(value)
                except StopAsyncIteration:
                    return
                finally:
                    step = value = None  # an exception that was thrown in would refer to this frame and be kept by it
                try:
                    value = yield item
                    step = generator.asend
                except BaseException as error:  # noqa: BLE001  # raised where the generator stands
                    step, value = generator.athrow, error
                finally:
                    item = None

    return call


def _first_step(generator: AsyncGenerator[Any, Any]) -> Callable[[object], Awaitable[Any]]:
    """Like `asend`, and an event loop does not see that the generator begins.

    It would close it when the loop ends, at the same time as the one around it, which does that itself.
    """

    def step(value: object) -> Awaitable[Any]:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            return generator.asend(value)
        finally:
            sys.set_asyncgen_hooks(*hooks)

    return step
