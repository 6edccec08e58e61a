# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""How modules reach a service: an endpoint is data, a transport is made from it, and errors come in one vocabulary.

An endpoint is a dict. The key that says where the service is chooses the transport: ``url`` is plain HTTP(S), ``service`` is
a Service of a Kubernetes cluster. A further way of reaching services is one more entry in ``TRANSPORTS``; no module knows
which one it uses.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.vigie.observability.plugins.module_utils.endpoint_options import ENDPOINT_OPTIONS
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

MAX_BODY = 64 * 1024 * 1024
"""Bytes of an answer that are read at most: a check must not fill the host's memory."""


def endpoint_spec(*, required: bool = True) -> dict[str, Any]:
    """Return the argument spec of an option that holds an endpoint."""
    return {
        "type": "dict",
        "required": required,
        "options": ENDPOINT_OPTIONS,
        "mutually_exclusive": [["url", "service"], ["password", "password_file"]],
        "required_one_of": [["url", "service"]],
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

    @property
    def date(self) -> float:
        """The service's own clock in Unix seconds when it answered; this host's clock where the answer doesn't say."""
        try:
            return parsedate_to_datetime(self.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return time.time()

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

    secrets: frozenset[str] = frozenset()
    """Texts that must never be printed, for example the password read from a file."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the service is, for people."""

    def command(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Return the command that shows what the service answers.

        Args:
            path: path and query below the endpoint, which needs no quoting.
            query: names and values of the query that do.
        """
        if not query:
            return f"curl -s {self.address}{path}"
        values = [f"{name}={value}".replace("'", "'\\''") for name, value in query.items()]
        return " ".join([f"curl -s --get {self.address}{path}", *(f"--data-urlencode '{value}'" for value in values)])

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
            CheckError: ``access_denied`` (401, 403), ``redirected`` (3xx) and ``bad_request`` (other statuses) are
                permanent; ``server_error`` (429 and 5xx), ``unreachable``, ``disconnected`` and ``timeout`` are transient.
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
        if response.status in (301, 302, 303, 307, 308):
            target = response.headers.get("location", "an unnamed place")
            raise CheckError(
                "redirected",
                f"{where} answered {response.status} and points to {target}; redirects are not followed, so that credentials "
                "never leave for another host: give the final address.",
                observed={**seen, "location": target},
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


_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"
"""What a path and query may hold unquoted; a percent sign is taken for one that already quotes."""

_SECRET_HEADERS = ("auth", "cookie", "key", "secret", "token")
"""Words in the name of a header that make its value a secret."""


@dataclass(frozen=True)
class Peer:
    """Words about the other end of a connection, for sentences about what went wrong with it.

    Attributes:
        address: where it is.
        call: command that shows what it answers.
        talk: command that shows how it speaks.
        certificate: command that shows its certificate.
        trust: what to set so that its certificate is accepted.
        plain: what to set when it doesn't speak TLS.
    """

    address: str
    call: str
    talk: str
    certificate: str
    trust: str
    plain: str


def explained(error: Exception, peer: Peer, timeout: float) -> CheckError:
    """Return the CheckError for an OSError or HTTPException of the standard library.

    Args:
        error: what was raised.
        peer: the other end.
        timeout: seconds that were given to it.
    """
    cause: Any = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return CheckError(
            "tls_untrusted",
            f"The certificate of {peer.address} was not accepted ({cause.verify_message}); look at it with {peer.certificate}, "
            f"and {peer.trust}.",
        )
    if isinstance(cause, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError | http.client.IncompleteRead):
        # RemoteDisconnected is a ConnectionResetError.
        return Disconnected(
            "disconnected",
            f"{peer.address} closed the connection before its answer was complete; the process may have died.",
            transient=True,
        )
    if isinstance(cause, ssl.SSLError):
        return CheckError(
            "tls_failed",
            f"{peer.address} doesn't speak TLS as it should ({cause.reason or cause}); try {peer.talk} or {peer.plain}.",
        )
    if isinstance(cause, TimeoutError):
        return CheckError("timeout", f"{peer.address} gave no answer within {timeout:.1f} s.", transient=True)
    if isinstance(cause, http.client.HTTPException):
        return CheckError(
            "bad_answer",
            f"{peer.address} doesn't speak HTTP ({type(cause).__name__}: {str(cause)[:100]!r}), so another program may be listening "
            "there.",
        )
    return CheckError("unreachable", f"{peer.address} can't be reached ({cause}); try {peer.call}.", transient=True)


class HttpTransport(Transport):
    """HTTP or HTTPS with credentials; a subclass says how the connection is made.

    The standard library is used directly: ``ansible.module_utils.urls`` takes longer to load than a whole check may.

    Args:
        endpoint: the suboptions documented in the doc fragment ``endpoint``.
        name: name of the option that holds them, for messages.
        base: address to which paths are added.

    Raises:
        CheckError: ``bad_option`` for a file that can't be used, or a password without a user.
    """

    def __init__(self, endpoint: Mapping[str, Any], name: str, base: str) -> None:
        self._name = name
        self._base = base
        self._headers = {str(key): str(value) for key, value in (endpoint.get("headers") or {}).items()}
        secrets = {
            value for key, value in self._headers.items() if any(word in key.lower() for word in _SECRET_HEADERS)
        }
        password = endpoint.get("password")
        if endpoint.get("password_file"):
            password = read_secret(endpoint["password_file"], f"{name}.password_file")
        if password and not endpoint.get("username"):
            raise CheckError("bad_option", f"{name} has a password but no {name}.username.")
        if endpoint.get("username"):
            login = base64.b64encode(f"{endpoint['username']}:{password or ''}".encode()).decode()
            self._headers["Authorization"] = f"Basic {login}"
            secrets.add(login)
        if password:
            secrets.add(password)
        self.secrets = frozenset(secrets)
        # Put together by hand: nothing that follows redirects or raises on a status, and no TLS context, which is slow to
        # make, where none is needed.
        self._opener = urllib.request.OpenerDirector()
        self._opener.add_handler(urllib.request.UnknownHandler())
        self._opener.add_handler(self._connector(self._tls_context(endpoint) if base.startswith("https://") else None))

    @abstractmethod
    def _connector(self, context: ssl.SSLContext | None) -> urllib.request.BaseHandler:
        """Return the handler that makes connections, with TLS when there is a context."""

    @abstractmethod
    def _peer(self, url: str) -> Peer:
        """Return words about the service, ``url`` being the address asked, without a query."""

    def _tls_context(self, endpoint: Mapping[str, Any]) -> ssl.SSLContext:
        ca_path = endpoint.get("ca_path")
        try:
            context = ssl.create_default_context(cafile=ca_path or None)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            detail = getattr(error, "strerror", None) or error
            raise CheckError(
                "bad_option",
                f"{self._name}.ca_path={ca_path} can't be used ({detail}); it must be a readable PEM file.",
            ) from error
        if not endpoint.get("validate_certs", True):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def send(
        self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Response:
        """Send one request; redirects are answers, not followed, so that credentials never leave for another host."""
        url = f"{self._base}{quote(path, safe=_URL_CHARACTERS)}"
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked by the subclass
            url,
            data=body,
            method=method,
            headers={"User-Agent": "vigie.observability", **self._headers, **headers},
        )
        ends = time.monotonic() + timeout
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                return Response(
                    answer.status, read_body(answer, ends), {k.lower(): v for k, v in answer.headers.items()}
                )
        except (OSError, http.client.HTTPException) as error:
            raise explained(error, self._peer(url.partition("?")[0]), timeout) from error
        except ValueError as error:
            raise CheckError(
                "bad_option", f"{self._name}.headers can't be sent ({type(error).__name__}: {error})."
            ) from error


class UrlTransport(HttpTransport):
    """Plain HTTP or HTTPS from this host.

    Args:
        endpoint: the suboptions documented in the doc fragment ``endpoint``.
        name: name of the option that holds them, for messages.

    Raises:
        CheckError: ``bad_option`` for an address or a file that can't be used.
    """

    def __init__(self, endpoint: Mapping[str, Any], name: str = "endpoint") -> None:
        super().__init__(endpoint, name, _checked_url(str(endpoint["url"]), name))
        if endpoint.get("use_proxy", False):
            self._opener.add_handler(urllib.request.ProxyHandler())

    def _connector(self, context: ssl.SSLContext | None) -> urllib.request.BaseHandler:
        return urllib.request.HTTPSHandler(context=context) if context else urllib.request.HTTPHandler()

    def _peer(self, url: str) -> Peer:
        return Peer(
            address=self._base,
            call=f"'curl -i {url}'",
            talk=f"'curl -iv {url}'",
            certificate=f"'openssl s_client -connect {urlsplit(self._base).netloc}'",
            trust=f"set {self._name}.ca_path to the CA that signed it",
            plain="http:// instead of https://",
        )

    @property
    def address(self) -> str:
        return self._base


def _checked_url(url: str, name: str) -> str:
    """Return the address without a trailing slash; what can't be one is refused before anything is sent."""
    option = f"{name}.url"
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        port_is_fine = False
        parts = urlsplit("")
    if "@" in url:
        # Not printed: what stands before the @ is usually a password.
        raise CheckError(
            "bad_option",
            f"{option} holds credentials; move them to {name}.username and {name}.password_file.",
        )
    if not url.startswith(("http://", "https://")):
        raise CheckError("bad_option", f"{option}={url} must begin with http:// or https://.")
    if not port_is_fine or not parts.hostname or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise CheckError(
            "bad_option",
            f"{option}={url} is no usable address; write it like http://127.0.0.1:9090 or https://host/prefix.",
        )
    return url.rstrip("/")


def read_body(answer: Any, ends: float) -> bytes:
    """Return the body of an answer.

    Raises:
        TimeoutError: it was not complete at ``ends`` (monotonic seconds), however steadily it dripped.
        IncompleteRead: the connection was closed within it.
        CheckError: ``bad_answer`` when it is longer than MAX_BODY.
    """
    parts = []
    size = 0
    while part := answer.read1(65536):
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise CheckError(
                "bad_answer", f"The answer is longer than {MAX_BODY // 1024**2} MiB, which no check can need."
            )
        if time.monotonic() > ends:
            raise TimeoutError
    # read1 stays silent about a body that is shorter than its Content-Length.
    missing = getattr(answer, "length", None)
    if missing:
        raise http.client.IncompleteRead(b"", missing)
    return b"".join(parts)


def _service_transport(endpoint: Mapping[str, Any], name: str) -> Transport:
    # What it takes costs time, and most endpoints are addresses.
    from ansible_collections.vigie.observability.plugins.module_utils.cluster import ServiceTransport

    return ServiceTransport(endpoint, name)


TRANSPORTS: dict[str, Callable[[Mapping[str, Any], str], Transport]] = {
    "url": UrlTransport,
    "service": _service_transport,
}
"""The key of an endpoint that says where the service is, and the transport that it chooses."""


def open_transport(endpoint: Mapping[str, Any], name: str = "endpoint") -> Transport:
    """Return the transport for an endpoint.

    Args:
        endpoint: the suboptions documented in the doc fragment ``endpoint``.
        name: name of the option that holds them, for messages.

    Raises:
        CheckError: ``bad_option`` when the endpoint names no known place, or more than one.
    """
    places = [key for key in TRANSPORTS if endpoint.get(key)]
    if len(places) != 1:
        raise CheckError("bad_option", f"{name} needs one of: {', '.join(TRANSPORTS)}.")
    if places != ["service"]:
        for option in ("kubeconfig", "context"):
            if endpoint.get(option):
                raise CheckError(
                    "bad_option", f"{name}.{option} goes with {name}.service, not with {name}.{places[0]}."
                )
    return TRANSPORTS[places[0]](endpoint, name)
