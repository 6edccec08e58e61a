"""Filter ``openpgp_fingerprints``: the primary keys in an armoured OpenPGP file, on hosts without GnuPG too."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator

BLOCK = re.compile(
    r"^-----BEGIN PGP PUBLIC KEY BLOCK-----[^\n]*\n(?:[A-Za-z]+: [^\n]*\n)*\s*\n(.*?)^-----END PGP PUBLIC KEY BLOCK-----",
    re.MULTILINE | re.DOTALL,
)
PUBLIC_KEY = 6


def packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and body of each packet (RFC 9580, section 4.2).

    Raises:
        ValueError: no packets, or packets of a length that isn't told, which no key has.
    """
    at = 0
    while at < len(data):
        first = data[at]
        if not first & 0x80:
            raise ValueError("no OpenPGP packet")
        if first & 0x40:
            tag, lead = first & 0x3F, data[at + 1]
            if lead < 192:
                start, length = at + 2, lead
            elif lead < 224:
                start, length = at + 3, (lead - 192 << 8) + data[at + 2] + 192
            elif lead == 255:
                start, length = at + 6, int.from_bytes(data[at + 2 : at + 6], "big")
            else:
                raise ValueError("a packet in parts")
        else:
            tag, size = first >> 2 & 0x0F, (1, 2, 4, 0)[first & 3]
            if not size:
                raise ValueError("a packet without a length")
            start, length = at + 1 + size, int.from_bytes(data[at + 1 : at + 1 + size], "big")
        if start + length > len(data):
            raise ValueError("a packet that ends too early")
        yield tag, data[start : start + length]
        at = start + length


def fingerprint(body: bytes) -> str:
    """Return the fingerprint of a public key's packet in upper case (RFC 9580, section 5.5.4).

    Raises:
        ValueError: a version of keys other than 4 and 6.
    """
    if body[0] == 4:
        # Version 4 is defined by SHA-1; what the file is as a whole, its SHA-256 says.
        return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()
    if body[0] == 6:
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise ValueError(f"a key of version {body[0]}")


def openpgp_fingerprints(text: str) -> list[str]:
    """Return the fingerprint of every primary key in an armoured file; empty when it isn't one from beginning to end.

    Args:
        text: content of the file.
    """
    found = []
    try:
        for block in BLOCK.findall(text.replace("\r\n", "\n")):
            lines = [line for line in block.split() if not line.startswith("=")]
            data = base64.b64decode("".join(lines), validate=True)
            found += [fingerprint(body) for tag, body in packets(data) if tag == PUBLIC_KEY]
    except (ValueError, IndexError, binascii.Error):
        return []
    return found


class FilterModule:
    """Filters of this role."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {"openpgp_fingerprints": openpgp_fingerprints}
