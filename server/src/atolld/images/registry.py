"""One registry, asked over HTTP as the OCI distribution specification says: manifests and blobs, with tokens.

What a registry answers is not trusted: every answer has a bound in bytes and in time, a redirect or a token server may
not lead further into the network than the registry lies (see `addresses`), never from HTTPS to HTTP, and credentials
go to the registry and to its token server only.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import re
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from atolld.foundation.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from atolld.images.addresses import Reach, resolve
from atolld.images.oci import INDEX_TYPES, MANIFEST_TYPES
from atolld.images.reference import DOCKER_HUB

CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 30.0
# A manifest in all, or until a blob begins, with tokens and redirects. A registry that trickles would otherwise hold us
# for days.
ANSWER_TIMEOUT_S = 60.0
MAX_REDIRECTS = 5
MAX_TOKEN_BYTES = 256 << 10
_ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
_CHALLENGE = re.compile(r'([a-zA-Z]+)="([^"]{0,2000})"')
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)")

Resolver = Callable[[str, int, Reach], Awaitable[tuple[str, Reach]]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user of a registry. `password`: or a token that stands for one; never shown."""

    username: str
    password: str = field(repr=False)

    def header(self) -> str:
        """The value of a Basic `Authorization`."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Body:
    """An answer's bytes as they come; `offset`: the place in the blob at which they begin."""

    offset: int
    pieces: AsyncIterator[bytes]


class Registry:
    """One registry for one user. Use as an async context manager.

    `insecure`: plain HTTP; that is also what a registry on this machine gets. `transport`, `resolver`: for tests.
    """

    def __init__(
        self,
        host: str,
        credentials: Credentials | None = None,
        *,
        insecure: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
        resolver: Resolver = resolve,
    ) -> None:
        self._name = host
        self._credentials = credentials
        self._transport = transport
        self._resolver = resolver
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._limit: Reach | None = None
        self._authorizations: dict[str, str] = {}
        address = "registry-1.docker.io" if host == DOCKER_HUB else host
        local = re.fullmatch(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?", host) is not None
        try:
            self._base = httpx.URL(f"{'http' if insecure or local else 'https'}://{address}")
        except httpx.InvalidURL as error:
            raise InvalidArgument(f"{host!r} is not the name of a registry: {error}") from None

    async def __aenter__(self) -> Registry:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def manifest(self, repository: str, wanted: str, limit_bytes: int) -> tuple[bytes, str]:
        """The manifest or index under a tag or digest, unverified, and its media type.

        Raises NotFound, PermissionDenied (no access, or sent where it may not send us), Unavailable (away, too slow),
        InvalidArgument when it is longer than `limit_bytes`.
        """
        url = self._base.join(f"/v2/{repository}/manifests/{wanted}")
        return await self._small(url, repository, {"accept": _ACCEPT}, limit_bytes)

    async def config(self, repository: str, digest: str, limit_bytes: int) -> bytes:
        """A small blob, unverified. Raises as `manifest`."""
        data, _ = await self._small(self._base.join(f"/v2/{repository}/blobs/{digest}"), repository, {}, limit_bytes)
        return data

    @asynccontextmanager
    async def blob(self, repository: str, digest: str, offset: int) -> AsyncIterator[Body]:
        """A blob from `offset` on, or from 0 where the registry cannot do that; unverified.

        Raises as `manifest`, also while the pieces come.
        """
        url = self._base.join(f"/v2/{repository}/blobs/{digest}")
        headers = {"range": f"bytes={offset}-"} if offset else {}
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                response = await self._ask(url, repository, headers)
        except TimeoutError:
            raise self._stalls() from None
        try:
            begins = 0
            if response.status_code == 206:
                match = _RANGE.fullmatch(response.headers.get("content-range", ""))
                begins = int(match[1]) if match else -1
                if begins not in (0, offset):
                    raise Unavailable(f"{self._name} sent another part of a blob than it was asked for")
            yield Body(begins, self._pieces(response))
        finally:
            await response.aclose()

    async def _small(
        self, url: httpx.URL, repository: str, headers: Mapping[str, str], limit_bytes: int
    ) -> tuple[bytes, str]:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                response = await self._ask(url, repository, headers)
                data = await self._read(response, limit_bytes)
        except TimeoutError:
            raise self._stalls() from None
        return data, response.headers.get("content-type", "").partition(";")[0].strip()

    async def _read(self, response: httpx.Response, limit_bytes: int) -> bytes:
        data = bytearray()
        try:
            async for piece in self._pieces(response):
                data += piece
                if len(data) > limit_bytes:
                    raise InvalidArgument(
                        f"{self._name} answered {response.request.url.path} with more than {limit_bytes} bytes; "
                        "no proper registry does"
                    )
        finally:
            await response.aclose()
        return bytes(data)

    async def _pieces(self, response: httpx.Response) -> AsyncIterator[bytes]:
        try:
            # Raw: digests are of what lies in the registry, and a compressed answer could be a bomb.
            async for piece in response.aiter_raw():
                yield piece
        except httpx.TimeoutException:
            raise Unavailable(f"{self._name} stalls: nothing came for {READ_TIMEOUT_S:g} s") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"the connection to {self._name} broke: {_words(error)}") from None

    async def _ask(self, url: httpx.URL, repository: str, headers: Mapping[str, str]) -> httpx.Response:
        """The answer with status 200 or 206, its body to be read and closed by the caller."""
        response = await self._follow(url, headers, self._authorizations.get(repository))
        if response.status_code == 401 and repository not in self._authorizations:
            challenge = response.headers.get("www-authenticate", "")
            await response.aclose()
            self._authorizations[repository] = await self._authorize(challenge, repository)
            response = await self._follow(url, headers, self._authorizations[repository])
        if response.status_code in (200, 206):
            return response
        await response.aclose()
        if response.status_code == 401:
            # A token lives for minutes; a long pull gets a new one at its next try.
            self._authorizations.pop(repository, None)
        raise self._refused(response, repository)

    async def _follow(self, url: httpx.URL, headers: Mapping[str, str], authorization: str | None) -> httpx.Response:
        for _ in range(MAX_REDIRECTS + 1):
            sent = dict(headers)
            if authorization and _origin(url) == _origin(self._base):
                sent["authorization"] = authorization
            response = await self._send(url, sent)
            if response.status_code not in (301, 302, 303, 307, 308):
                return response
            await response.aclose()
            try:
                url = url.join(response.headers.get("location", ""))
            except httpx.InvalidURL:
                raise Unavailable(f"{self._name} redirects to what is no address") from None
        raise Unavailable(f"{self._name} redirects more than {MAX_REDIRECTS} times")

    async def _send(self, url: httpx.URL, headers: dict[str, str]) -> httpx.Response:
        if url.scheme not in ("https", "http") or (url.scheme == "http" and self._base.scheme == "https"):
            raise PermissionDenied(f"{self._name} sends this machine to {url.scheme}://{url.host}, which is not secure")
        port = url.port or (443 if url.scheme == "https" else 80)
        proxy = _proxy_of(url)
        address = await self._address(url.host, port, proxy is not None)
        target, extensions = url, {}
        if proxy is None and address is not None:
            # The very address that was looked at: a name that is resolved again may have moved meanwhile.
            target = url.copy_with(host=address)
            headers["host"] = url.netloc.decode("ascii")
            extensions = {"sni_hostname": url.host}
        client = await self._client(proxy)
        request = client.build_request("GET", target, headers=headers, extensions=extensions)
        request.headers["accept-encoding"] = "identity"
        try:
            return await client.send(request, stream=True)
        except httpx.TimeoutException:
            raise Unavailable(f"{url.host} does not answer in time") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"{url.host} cannot be reached: {_words(error)}") from None

    async def _address(self, host: str, port: int, is_proxied: bool) -> str | None:
        if self._limit is None:
            # The registry itself is what the user named: wherever it is, but for where none may be.
            limit = await self._look(self._base.host, self._base.port or 0, Reach.LOOPBACK, is_proxied)
            self._limit = limit[1] if limit is not None else Reach.PUBLIC
        found = await self._look(host, port, self._limit, is_proxied)
        return None if found is None else found[0]

    async def _look(self, host: str, port: int, limit: Reach, is_proxied: bool) -> tuple[str, Reach] | None:
        try:
            return await self._resolver(host, port, limit)
        except Unavailable:
            # Behind a proxy a machine often knows no names of the outside.
            if is_proxied:
                return None
            raise

    async def _client(self, proxy: str | None) -> httpx.AsyncClient:
        if (proxy or "") not in self._clients:
            timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
            # The machine's own certificates, not certifi's: a company's registry is signed by a company's authority.
            verify = await asyncio.to_thread(_certificates)
            self._clients[proxy or ""] = httpx.AsyncClient(
                timeout=timeout,
                trust_env=False,
                verify=verify,
                proxy=proxy if self._transport is None else None,
                transport=self._transport,
            )
        return self._clients[proxy or ""]

    async def _authorize(self, challenge: str, repository: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" and self._credentials is not None:
            return self._credentials.header()
        if scheme.lower() != "bearer":
            raise PermissionDenied(f"{self._name} wants a user name and a password for {repository}")
        fields = dict(_CHALLENGE.findall(rest))
        try:
            realm = httpx.URL(fields.get("realm", ""))
        except httpx.InvalidURL:
            raise Unavailable(f"{self._name} names no proper server for tokens") from None
        url = realm.copy_merge_params(
            {"scope": f"repository:{repository}:pull"} | ({"service": fields["service"]} if "service" in fields else {})
        )
        headers = {"authorization": self._credentials.header()} if self._credentials else {}
        response = await self._send(url, headers)
        body = await self._read(response, MAX_TOKEN_BYTES)
        if response.status_code in (401, 403):
            raise self._refused(response, repository)
        if response.status_code != 200:
            raise Unavailable(f"{realm.host} gives no token for {repository}: status {response.status_code}")
        try:
            answer = json.loads(body)
            token = answer.get("token") or answer["access_token"]
        except (ValueError, KeyError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise Unavailable(f"{realm.host} answers with something that is no token")
        return f"Bearer {token}"

    def _stalls(self) -> Unavailable:
        return Unavailable(f"{self._name} stalls: no answer within {ANSWER_TIMEOUT_S:g} s")

    def _refused(self, response: httpx.Response, repository: str) -> Exception:
        status = response.status_code
        if status == 404:
            return NotFound(f"{self._name} has no such image: {response.request.url.path.removeprefix('/v2/')}")
        if status in (401, 403):
            hint = "with these credentials" if self._credentials else "without credentials"
            return PermissionDenied(f"{self._name} does not give {repository!r} {hint}, or there is no such image")
        if status == 429:
            return Unavailable(f"{self._name} has had too many requests from here; try again later or with credentials")
        return Unavailable(f"{self._name} answered with the status {status}")


@functools.cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()


def _proxy_of(url: httpx.URL) -> str | None:
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(url.host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _words(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
