"""httpx clients with a key and the environment's proxies, for everything that is requested over HTTP.

The proxy of each request is chosen by `proxies.proxy_for`, so one that is not used is not looked at. A connection that
fails on its way through a proxy is a `httpx.ProxyError` that names the variable and the proxy's host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import httpx

from edit_r1.shared.connections.api_keys import bearer
from edit_r1.shared.connections.proxies import Proxy, proxy_for
from edit_r1.shared.errors import ConfigError

Transport = TypeVar("Transport")
_UNREACHABLE = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ProxyError,
    httpx.ReadError,
    httpx.RemoteProtocolError,
)


def async_client(*, api_key: str | None, timeout: httpx.Timeout | float, limits: httpx.Limits) -> httpx.AsyncClient:
    """An asynchronous client. Raises ConfigError for a key that cannot be sent."""
    return httpx.AsyncClient(headers=bearer(api_key), timeout=timeout, transport=_AsyncTransport(limits))


def client(*, api_key: str | None, timeout: float) -> httpx.Client:
    """A synchronous client. Raises ConfigError for a key that cannot be sent."""
    return httpx.Client(headers=bearer(api_key), timeout=timeout, transport=_Transport())


class _Routes(Generic[Transport]):
    """One transport per proxy, and one for direct connections, made when they are first used."""

    def __init__(self, connect: Callable[[httpx.Proxy | None], Transport]) -> None:
        self._connect = connect
        self.made: dict[Proxy | None, Transport] = {}

    def to(self, url: httpx.URL) -> tuple[Transport, Proxy | None]:
        """The transport for this URL and its proxy. Raises ConfigError for a proxy that cannot be used."""
        proxy = proxy_for(url)
        if proxy not in self.made:
            self.made[proxy] = self._connect(None) if proxy is None else self._connect_through(proxy, url)
        return self.made[proxy], proxy

    def _connect_through(self, proxy: Proxy, url: httpx.URL) -> Transport:
        instead = f"unset {proxy.variable}, or add {url.host} to NO_PROXY"
        try:
            address = httpx.Proxy(proxy.address)
            if not address.url.host:
                raise ValueError("no host")
            return self._connect(address)
        except ImportError:
            raise ConfigError(
                f"{proxy.variable} sets a SOCKS proxy, {proxy.host}, which needs the package socksio: install it "
                f"(uv pip install socksio), {instead}"
            ) from None
        except (ValueError, httpx.InvalidURL):  # its message would show the password
            raise ConfigError(
                f"{proxy.variable} does not set a usable proxy: expected http://, https:// or socks5:// with a host; "
                f"correct it, {instead}"
            ) from None


@contextmanager
def _naming(proxy: Proxy | None) -> Iterator[None]:
    """Turn a connection's failure into one that names the proxy it was to go through."""
    try:
        yield
    except _UNREACHABLE as error:
        if proxy is None:
            raise
        reason = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or "no connection"
        raise httpx.ProxyError(f"no connection through {proxy}: {reason}") from error


class _AsyncTransport(httpx.AsyncBaseTransport):
    """Sends each request directly or through its proxy."""

    def __init__(self, limits: httpx.Limits) -> None:
        self._routes = _Routes(lambda proxy: httpx.AsyncHTTPTransport(proxy=proxy, limits=limits))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Httpx's hook."""
        transport, proxy = self._routes.to(request.url)
        with _naming(proxy):
            return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._routes.made.values():
            await transport.aclose()


class _Transport(httpx.BaseTransport):
    """Sends each request directly or through its proxy."""

    def __init__(self) -> None:
        self._routes = _Routes(lambda proxy: httpx.HTTPTransport(proxy=proxy))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Httpx's hook."""
        transport, proxy = self._routes.to(request.url)
        with _naming(proxy):
            return transport.handle_request(request)

    def close(self) -> None:
        """Close all connections."""
        for transport in self._routes.made.values():
            transport.close()
