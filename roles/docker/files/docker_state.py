"""Prints as JSON what a Docker daemon says of itself and what it holds; asks with the standard library alone, as bare hosts have no other.

docker_state.py SOCKET
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from typing import Any

QUESTIONS = {
    "host_info": "/info",
    "containers": "/containers/json?all=1",
    "images": "/images/json",
    "networks": "/networks",
    "volumes": "/volumes",
}
TIMEOUT = 30


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self.path)


def ask(path: str, question: str) -> Any:
    """Return a daemon's answer.

    Raises:
        OSError: nobody answers.
        ValueError: the answer is no JSON, or not what was asked for.
    """
    connection = UnixConnection(path)
    try:
        connection.request("GET", question)
        response = connection.getresponse()
        content = json.loads(response.read())
        if response.status != http.client.OK:
            raise ValueError(f"{question}: {response.status} {content.get('message', '')}")
        return content
    finally:
        connection.close()


def state(path: str) -> dict[str, Any]:
    """Return the answers; without a daemon only why there are none."""
    try:
        found = {name: ask(path, question) for name, question in QUESTIONS.items()}
    except (OSError, ValueError, http.client.HTTPException) as error:
        return {"can_talk_to_docker": False, "msg": f"{path}: {error or type(error).__name__}"}
    found["volumes"] = found["volumes"].get("Volumes") or []
    return {"can_talk_to_docker": True, "msg": "", **found}


if __name__ == "__main__":
    print(json.dumps(state(sys.argv[1])))
