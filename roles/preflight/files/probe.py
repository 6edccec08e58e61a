#!/usr/bin/env python3
"""Look at a host and at what it reaches, and print what was found as JSON. Changes nothing.

The one argument is JSON: ``origins``, a list of {name, url} and, where every answer is good, {registry: true}, or with a {remedy} of
their own; ``registries``, a list of host[:port]; ``apt``, whether the package sources count too; ``paths``, whose free space is
wanted; ``sysctls``, names; ``ports``, numbers that must be free; ``timeout``, seconds that each answer may take. Needs nothing but
the standard library of Python 3.8 or newer.
"""

from __future__ import annotations

import concurrent.futures
import errno
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

REMEDY = "let the host reach it, or set vigie_mirrors or vigie_bundle_dir."
APT_REMEDY = "let the host reach it, or correct its package sources."
PROXY_PORTS = {"http": 80, "https": 443, "socks5": 1080}


def without_credentials(address: str) -> str:
    """Return an address that may be shown."""
    return re.sub(r"//[^/@]*@", "//", address)


def cause(error: BaseException) -> str:
    """Return in a few words why an address was not reached."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, BaseException) and reason is not error:
        return cause(reason)
    if isinstance(reason, socket.gaierror):
        return "its name is not known to DNS"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({reason.verify_message})"
    if isinstance(reason, TimeoutError) or "timed out" in str(reason):
        return "it does not answer in time"
    if isinstance(reason, ConnectionRefusedError):
        return "the connection is refused"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables that are set, by their name."""
    found = {}
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        # A program that is asked for one form takes the lower-case one first.
        for form in (name, name.upper()):
            if environment.get(form):
                found[form] = environment[form]
                break
    return found


def dead_proxies(variables: Mapping[str, str], timeout: float) -> dict[str, str]:
    """Return the proxy variables behind which nobody answers, with the sentence for people."""
    dead = {}
    for name, value in variables.items():
        address = urllib.parse.urlsplit(value if "://" in value else f"http://{value}")
        shown = without_credentials(value)
        try:
            port = address.port or PROXY_PORTS.get(address.scheme, 80)
            if not address.hostname:
                raise ValueError("it names no host")
            socket.create_connection((address.hostname, port), timeout=timeout).close()
        except ValueError as error:
            dead[name] = f"{name}={shown} is no address of a proxy ({error}); write it like http://proxy.example:3128."
        except OSError as error:
            dead[name] = f"{name}={shown} does not answer: {cause(error)}; correct the variable, or unset it."
    return dead


def proxy_of(url: str, variables: Mapping[str, str]) -> str:
    """Return the name of the variable whose proxy leads to an address; empty when it is reached directly."""
    parts = urllib.parse.urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return ""
    for name in variables:
        if name.lower() == f"{parts.scheme}_proxy":
            return name
    return ""


def ask(
    name: str, url: str, variables: Mapping[str, str], timeout: float, *, registry: bool = False, remedy: str = REMEDY
) -> str:
    """Return why an address is not reached, as a sentence for people; empty when it is.

    Args:
        name: what needs it.
        url: address that is asked for its head.
        variables: proxy variables that are set.
        timeout: seconds.
        registry: one of images, for which every answer is good: it wants to know first who asks.
        remedy: what can be done about it.
    """
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "vigie-preflight"})  # noqa: S310
    through = proxy_of(url, variables)
    way = f" through {through}={without_credentials(variables[through])}" if through else ""
    try:
        with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        if error.code < 500 and (registry or error.code not in (404, 407, 410)):
            return ""
        # 501: a server that knows GET alone.
        if error.code == 501:
            return ""
        return f"{url}, from which {name} comes, answers {error.code} {error.reason}{way}; {remedy}"
    except (OSError, ValueError) as error:
        # A registry that speaks plain HTTP, which Docker may have been told to accept, is there too.
        if registry and isinstance(getattr(error, "reason", None), ssl.SSLError) and "WRONG_VERSION" in str(error):
            return ""
        return f"{url}, from which {name} comes, is not reached{way}: {cause(error)}; {remedy}"


def apt_uris() -> list[str]:
    """Return an address of each package source; none where apt has a way of its own, such as a proxy in its configuration."""
    printed = ""
    for command in (["apt-config", "dump", "Acquire"], ["apt-get", "--print-uris", "--quiet", "update"]):
        try:
            printed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
        except (OSError, subprocess.TimeoutExpired):
            return []
        if re.search(r'^Acquire::https?::Proxy\S* "[^"]', printed, re.MULTILINE):
            return []
    bases: dict[str, str] = {}
    for url in re.findall(r"^'(https?://[^']+)'", printed, re.MULTILINE):
        bases.setdefault(urllib.parse.urlsplit(url).netloc, url)
    return list(bases.values())


def nearest(path: str) -> Path:
    """Return the folder on whose file system a path is, or would be."""
    place = Path(path)
    while not os.access(place, os.F_OK) and place != place.parent:
        place = place.parent
    return place


def free(paths: Iterable[str]) -> dict[str, int]:
    """Return path to free MiB."""
    return {path: shutil.disk_usage(nearest(path)).free >> 20 for path in paths}


def sysctls(names: Iterable[str], root: Path = Path("/proc/sys")) -> dict[str, int | None]:
    """Return kernel parameter to value; None for one that this kernel doesn't have."""
    found: dict[str, int | None] = {}
    for name in names:
        try:
            found[name] = int((root / name.replace(".", "/")).read_text().split()[0])
        except (OSError, ValueError, IndexError):
            found[name] = None
    return found


def taken(ports: Iterable[int]) -> list[int]:
    """Return the TCP ports on which somebody listens."""
    found = []
    for port in ports:
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind(("", port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    found.append(port)
    return found


def memory_available(text: str) -> int:
    """Return the MiB that /proc/meminfo says can be had without swapping."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) >> 10 if match else 0


def cgroup_version(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the version of the control groups; 0 when none are mounted."""
    if (root / "cgroup.controllers").exists():
        return 2
    return 1 if (root / "memory").is_dir() else 0


def look(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that was asked for."""
    timeout = float(wanted["timeout"])
    variables = proxies(os.environ)
    dead = dead_proxies(variables, timeout)
    # Docker Hub's registry has another name than its images.
    hubs = {"docker.io": "registry-1.docker.io"}
    origins = [
        *wanted["origins"],
        *(
            {"name": "an image", "url": f"https://{hubs.get(one, one)}/v2/", "registry": True}
            for one in wanted["registries"]
        ),
        *({"name": "a package", "url": url, "remedy": APT_REMEDY} for url in (apt_uris() if wanted["apt"] else [])),
    ]
    # What goes through a dead proxy has one fault: the proxy.
    asked = [one for one in origins if proxy_of(one["url"], variables) not in dead]
    with concurrent.futures.ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda one: ask(**one, variables=variables, timeout=timeout), asked))
    return {
        "proxies": {name: without_credentials(value) for name, value in variables.items()},
        "dead_proxies": list(dead.values()),
        "asked": sorted({urllib.parse.urlsplit(one["url"]).netloc for one in asked}),
        "unreached": [answer for answer in answers if answer],
        "free": free(wanted["paths"]),
        "sysctls": sysctls(wanted["sysctls"]),
        "taken": taken(wanted["ports"]),
        "memory_available": memory_available(Path("/proc/meminfo").read_text()),
        "cgroup": cgroup_version(),
    }


if __name__ == "__main__":
    print(json.dumps(look(json.loads(sys.argv[1]))))
