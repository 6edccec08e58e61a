# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""How modules reach a service: an endpoint is data, a transport is made from it, and errors come in one vocabulary.

An endpoint is a dict. The key that says where the service is chooses the transport: ``url`` is plain HTTP(S). A further
way of reaching services is one more class in ``TRANSPORTS``; no module knows which one it uses.
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ansible.module_utils.urls import ConnectionError as AnsibleConnectionError
from ansible.module_utils.urls import NoSSLError, SSLValidationError, open_url
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer that are read at most: a check must not fill the host's memory."""

ENDPOINT_OPTIONS: dict[str, dict[str, Any]] = {
    "url": {"type": "str"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "password_file": {"type": "path", "no_log": False},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "headers": {"type": "dict", "default": {}},
    "use_proxy": {"type": "bool", "default": False},
}
"""Suboptions of every ``endpoint``; documented once in the doc fragment ``endpoint``."""


def endpoint_spec(*, required: bool = True) -> dict[str, Any]:
    """Return the argument spec of an option that holds an endpoint."""
    return {
        "type": "dict",
        "required": required,
        "options": ENDPOINT_OPTIONS,
        "required_one_of": [["url"]],
        "mutually_exclusive": [["password", "password_file"]],
    }


@dataclass
class Response:
    """An answer of a service.

    Attributes:
        status: HTTP status code.
        body: at most MAX_BODY bytes.
        headers: names in lower case.
    """

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The body as text; bytes that are no UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body as data.

        Raises:
            CheckError: ``bad_answer`` when it is no JSON: another program listens there, or a proxy answered.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise CheckError(
                "bad_answer",
                "The answer is no JSON, so another program or a proxy may be listening at this endpoint.",
                observed=self.text[:200],
            ) from error


class Disconnected(CheckError):
    """The service closed the connection without an answer, as a process does that dies while it serves the request."""


def read_secret(path: str, option: str) -> str:
    """Return the secret kept in a file, without the newline that editors leave at its end.

    Raises:
        CheckError: ``bad_option`` when it can't be read or is empty.
    """
    try:
        secret = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        detail = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise CheckError(
            "bad_option", f"{option}={path} can't be read ({detail}); check it with 'ls -l {path}'."
        ) from error
    if not secret:
        raise CheckError("bad_option", f"{option}={path} is empty; write the password into it.")
    return secret


class Transport(ABC):
    """A way to send one HTTP request to a service."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the service is, for people."""

    @abstractmethod
    def send(
        self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Response:
        """Send one request and return whatever status the service answers.

        Args:
            method: HTTP method.
            path: path and query below the endpoint, beginning with a slash.
            body: bytes to send, or None.
            headers: names and values to add.
            timeout: seconds.

        Raises:
            CheckError: no answer came; see the subclass for the reasons.
        """

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | list[tuple[str, Any]] | None = None,
        data: Any = None,
        timeout: float = 10.0,
        accept: tuple[int, ...] = (200,),
    ) -> Response:
        """Send one request, JSON data if any, and demand one of the accepted statuses.

        Raises:
            CheckError: ``access_denied`` (401, 403) and ``bad_request`` (other statuses) are permanent;
                ``server_error`` (429 and 5xx), ``unreachable`` and ``timeout`` are transient.
        """
        if query:
            path = f"{path}?{urlencode(query, doseq=True)}"
        headers = {"Accept": "application/json, */*;q=0.1"}
        body = None
        if data is not None:
            body = json.dumps(data).encode()
            headers["Content-Type"] = "application/json"
        response = self.send(method, path, body=body, headers=headers, timeout=timeout)
        if response.status in accept:
            return response
        seen = {"status": response.status, "body": response.text[:500]}
        where = f"{method} {self.address}{path.partition('?')[0]}"
        if response.status in (401, 403):
            raise CheckError(
                "access_denied",
                f"{where} answered {response.status}; check username and password of the endpoint.",
                observed=seen,
            )
        if response.status == 429 or response.status >= 500:
            raise CheckError(
                "server_error",
                f"{where} answered {response.status}; look at the service's log.",
                transient=True,
                observed=seen,
            )
        raise CheckError(
            "bad_request", f"{where} answered {response.status}: {response.text[:200].strip()}", observed=seen
        )


class UrlTransport(Transport):
    """Plain HTTP or HTTPS from this host."""

    def __init__(self, endpoint: Mapping[str, Any]) -> None:
        self._url = str(endpoint["url"]).rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise CheckError("bad_option", f"endpoint.url={self._url} must begin with http:// or https://.")
        self._username = endpoint.get("username")
        self._password = endpoint.get("password")
        if endpoint.get("password_file"):
            self._password = read_secret(endpoint["password_file"], "endpoint.password_file")
        self._ca_path = endpoint.get("ca_path")
        self._validate_certs = endpoint.get("validate_certs", True)
        self._headers = {str(name): str(value) for name, value in (endpoint.get("headers") or {}).items()}
        self._use_proxy = endpoint.get("use_proxy", False)

    @property
    def address(self) -> str:
        return self._url

    def send(
        self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Response:
        """Send one request; redirects are answers, not followed, so that credentials never leave for another host."""
        url = f"{self._url}{path}"
        try:
            answer = open_url(
                url,
                data=body,
                method=method,
                headers={**self._headers, **headers},
                timeout=timeout,
                use_proxy=self._use_proxy,
                validate_certs=self._validate_certs,
                ca_path=self._ca_path,
                url_username=self._username,
                url_password=self._password,
                force_basic_auth=bool(self._username),
                follow_redirects="none",
                http_agent="vigie.observability",
                use_netrc=False,
            )
            return Response(answer.status, answer.read(MAX_BODY), {k.lower(): v for k, v in answer.headers.items()})
        except urllib.error.HTTPError as error:
            return Response(error.code, error.read(MAX_BODY), {k.lower(): v for k, v in error.headers.items()})
        except (SSLValidationError, NoSSLError, ssl.SSLError) as error:
            raise self._untrusted(error) from error
        except (
            http.client.RemoteDisconnected,
            ConnectionResetError,
            BrokenPipeError,
            http.client.IncompleteRead,
        ) as error:
            raise self._disconnected() from error
        except TimeoutError as error:
            raise self._timed_out(timeout) from error
        except (urllib.error.URLError, AnsibleConnectionError, http.client.HTTPException, OSError) as error:
            cause = getattr(error, "reason", error)
            if isinstance(cause, ssl.SSLError):
                raise self._untrusted(cause) from error
            if isinstance(cause, TimeoutError):
                raise self._timed_out(timeout) from error
            if isinstance(cause, ConnectionResetError | BrokenPipeError):
                raise self._disconnected() from error
            raise CheckError(
                "unreachable",
                f"{self._url} can't be reached ({cause}); try 'curl -i {url.partition('?')[0]}'.",
                transient=True,
            ) from error
        except ValueError as error:
            raise CheckError("bad_option", f"endpoint.url={self._url} is no usable address ({error}).") from error

    def _untrusted(self, cause: Exception) -> CheckError:
        return CheckError(
            "tls_untrusted",
            f"The certificate of {self._url} was not accepted ({cause}); set endpoint.ca_path to the CA that signed it.",
        )

    def _disconnected(self) -> CheckError:
        return Disconnected(
            "disconnected",
            f"{self._url} closed the connection without an answer; the process may have died.",
            transient=True,
        )

    def _timed_out(self, timeout: float) -> CheckError:
        return CheckError("timeout", f"{self._url} gave no answer within {timeout:.1f} s.", transient=True)


TRANSPORTS: dict[str, type[UrlTransport]] = {"url": UrlTransport}
"""The key of an endpoint that says where the service is, and the transport that it chooses."""


def open_transport(endpoint: Mapping[str, Any]) -> Transport:
    """Return the transport for an endpoint.

    Raises:
        CheckError: ``bad_option`` when the endpoint names no known place.
    """
    for key, transport in TRANSPORTS.items():
        if endpoint.get(key):
            return transport(endpoint)
    raise CheckError("bad_option", f"endpoint needs one of: {', '.join(TRANSPORTS)}.")
