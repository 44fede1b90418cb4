"""The client for code that is not async: its methods are made of the async ones, which run in a thread."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from functools import wraps
from threading import Lock, Thread
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from revec.client.client import Client
from revec.model.errors import Refused

P = ParamSpec("P")
T = TypeVar("T")


class Twin(Generic[P, T]):
    """A method of `SyncClient`: the client's own of the same name, parameters and answer, waited for."""

    def __init__(self, method: Callable[Concatenate[Client, P], Awaitable[T]]) -> None:
        name = method.__name__

        @wraps(method)
        def waited(twin: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return twin.wait_for(lambda client: getattr(client, name)(*args, **kwargs))  # type: ignore[no-any-return]

        self._waited = waited

    @overload
    def __get__(self, twin: None, owner: object) -> Self: ...

    @overload
    def __get__(self, twin: SyncClient, owner: object) -> Callable[P, T]: ...

    def __get__(self, twin: SyncClient | None, owner: object) -> Self | Callable[P, T]:
        return self if twin is None else MethodType(self._waited, twin)


class SyncClient:
    """`with revec.connect(…).sync() as client`; from any thread, also where a loop runs (a notebook).

    It has an event loop in a thread of its own while it is open, and leaves nothing of it behind.
    """

    search = Twin(Client.search)
    similar = Twin(Client.similar)
    put = Twin(Client.put)
    delete = Twin(Client.delete)
    get = Twin(Client.get)
    collections = Twin(Client.collections)

    def __init__(self, client: Client) -> None:
        self._client = client
        self._life: Life | None = None

    def __enter__(self) -> Self:
        if self._life is not None:
            raise Refused("this client is open already: connect another one")
        self._life = Life(self._client)
        try:
            self._life.begin()
        except BaseException:
            self._life = None
            raise
        return self

    def __exit__(self, *_: object) -> None:
        life, self._life = self._life, None
        if life is not None:
            life.end()

    def wait_for(self, call: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """What `call` makes of the async client, in that one's own loop.

        Raises:
            Refused: it is not open, or was closed meanwhile.
        """
        if self._life is None:
            raise Refused("this client is not open: `with revec.connect(…).sync() as client`")
        return self._life.wait_for(call)


class Life:
    """From opening to closing: one thread, one loop, one task that opens the client and closes it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._opened: Future[asyncio.AbstractEventLoop] = Future()
        self._closed: Future[None] = Future()
        self._calls: set[asyncio.Task[Any]] = set()
        self._door = Lock()  # no call comes in once it is shut
        self._is_shut = False
        self._process = os.getpid()  # a fork has no such thread
        # A daemon: a program that forgets to close it can end nevertheless.
        self._thread = Thread(target=self._run, name="revec", daemon=True)

    def begin(self) -> None:
        """Open the client; what goes wrong there goes wrong here."""
        self._thread.start()
        try:
            self._loop = self._opened.result()
        except Exception:
            self._thread.join()
            raise
        except BaseException:  # whoever waits was interrupted: it leaves as soon as it is open
            self._is_shut = True
            self._opened.add_done_callback(lambda _: self._leaving.set())
            raise

    def wait_for(self, call: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        if self._process != os.getpid():
            raise Refused("this client was opened in another process: connect in this one")
        with self._door:
            if self._is_shut:
                raise Refused("this client is closed")
            future = asyncio.run_coroutine_threadsafe(self._called(call), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise Refused("this client was closed before the answer was there") from None
        except BaseException:  # whoever waits was interrupted
            future.cancel()
            raise

    def end(self) -> None:
        """Close the client, after the calls that are under way were cut off; wait for the thread."""
        if self._process != os.getpid():
            return  # it is the other process's
        with self._door:
            self._is_shut = True
        self._loop.call_soon_threadsafe(self._leaving.set)
        self._thread.join()
        self._closed.result()

    async def _called(self, call: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await call(self._client)
        finally:
            self._calls.discard(task)

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._fail(error)
        else:
            self._closed.set_result(None)

    def _fail(self, error: BaseException) -> None:
        (self._closed if self._opened.done() else self._opened).set_exception(error)

    async def _live(self) -> None:
        self._leaving = asyncio.Event()
        async with self._client:
            self._opened.set_result(asyncio.get_running_loop())
            await self._leaving.wait()
            under_way = list(self._calls)
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
