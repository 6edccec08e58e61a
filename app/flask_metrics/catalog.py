"""Client of the second service, the catalogue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

MAX_BYTES = 65536


class CatalogError(Exception):
    """The catalogue gave no usable answer; the text says what it did, in a few words.

    Attributes:
        kind: HTTP status, ``timeout`` or name of the exception: the span attribute ``error.type``.
        status: HTTP status of the answer, None without one.
    """

    def __init__(self, text: str, kind: str, status: int | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.status = status


class Catalog:
    """Asks the catalogue, on a new connection each time.

    A kept connection would save a fraction of a millisecond, and be lost whenever the other side closes it at the
    moment of a request: after its own idle time, or when its pod is replaced.
    """

    def __init__(self, url: str, timeout: float) -> None:
        """Ask ``url`` (checked by `Settings`).

        Args:
            url: http or https, with the path of the catalogue's resource; without one it is ``/``.
            timeout: seconds to wait for the connection, and each time that the answer pauses.
        """
        parts = urlsplit(url)
        self.url = url if parts.path else f"{url}/"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self._path = parts.path or "/"
        self._connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._timeout = timeout

    def items(self, headers: Mapping[str, str]) -> list[Any]:
        """Return what the catalogue lists.

        Args:
            headers: sent with the request.

        Raises:
            CatalogError: it is down, slow, or answers something else.
        """
        connection = self._connection(self.host, self.port, timeout=self._timeout)
        try:
            connection.request("GET", self._path, headers={**headers, "Connection": "close"})
            response = connection.getresponse()
            body = response.read(MAX_BYTES + 1)
        except TimeoutError:
            raise CatalogError(f"nothing came for {self._timeout:g} s", "timeout") from None
        # ValueError: a host name or a header that cannot be sent.
        except (OSError, HTTPException, ValueError) as error:
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CatalogError(text, type(error).__name__) from error
        finally:
            connection.close()
        if response.status != 200:
            raise CatalogError(f"it answered {response.status}", str(response.status), response.status)
        if len(body) > MAX_BYTES:
            raise CatalogError(f"its answer is larger than {MAX_BYTES} bytes", "too_large", 200)
        try:
            items = json.loads(body)["items"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CatalogError("its answer is no catalogue", type(error).__name__, 200) from error
        if not isinstance(items, list):
            raise CatalogError("its answer is no catalogue", "TypeError", 200)
        return items
