"""Which proxy the environment sets for a URL.

Follows httpx's rules for HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, with one difference: loopback addresses are
never reached through a proxy, because it would look for them on its own machine.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.request import getproxies

import httpx


@dataclass(frozen=True)
class Proxy:
    """A proxy that a variable of the environment sets."""

    variable: str
    """The variable, as it is spelled in the environment."""
    address: str = field(repr=False)
    """Its URL, which may contain a password."""

    @property
    def host(self) -> str:
        """Host and port of the proxy for messages, without a password."""
        try:
            url = httpx.URL(self.address)
        except httpx.InvalidURL:
            return "an address that is not a URL"
        host = f"[{url.host}]" if ":" in url.host else url.host
        return host if url.port is None else f"{host}:{url.port}"

    def __str__(self) -> str:
        return f"the proxy {self.host} ({self.variable})"


def proxy_for(url: httpx.URL) -> Proxy | None:
    """The proxy that requests to this URL go through; None when they go there directly."""
    if is_loopback(url.host):
        return None
    proxies = getproxies()
    if any(_excludes(entry.strip(), url) for entry in proxies.get("no", "").split(",")):
        return None
    for scheme in (url.scheme, "all"):
        if address := proxies.get(scheme):
            return Proxy(_spelled(scheme, address), address if "://" in address else f"http://{address}")
    return None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: localhost, 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _excludes(entry: str, url: httpx.URL) -> bool:
    """Whether an entry of NO_PROXY excludes the URL: a host with its subdomains, an address, or a URL's beginning."""
    if entry in ("", "*"):
        return entry == "*"
    try:
        pattern = httpx.URL(entry if "://" in entry else f"all://{_as_host(entry)}")
    except httpx.InvalidURL:
        return False
    if pattern.scheme not in ("all", url.scheme) or pattern.port not in (None, url.port):
        return False
    host = pattern.host
    if "://" in entry or _is_address(host) or host == "localhost":
        return host in ("", url.host)
    return url.host.endswith(host) if host.startswith(".") else f".{url.host}".endswith(f".{host}")


def _as_host(entry: str) -> str:
    return f"[{entry}]" if ":" in entry and _is_address(entry) else entry


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _spelled(scheme: str, address: str) -> str:
    """The variable's name as it is spelled in the environment; where both spellings exist, lower case wins."""
    wanted = f"{scheme}_proxy"
    names = [name for name, value in os.environ.items() if name.lower() == wanted and value == address]
    return max(names, default=wanted)
