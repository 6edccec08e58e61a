"""One filter for every mirror: the right origin, whole names only, malformed tables refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vigie.observability.plugins.filter.mirrored import FilterModule, mirrored

KUBECTL = "https://dl.k8s.io/release/v1.35.8/bin/linux/amd64/kubectl"


@pytest.mark.parametrize(
    ("mirrors", "address", "expected"),
    [
        ({}, KUBECTL, KUBECTL),
        ({"https://get.helm.sh": "https://m.example"}, KUBECTL, KUBECTL),
        (
            {"https://dl.k8s.io": "http://m.example:8080/k8s"},
            KUBECTL,
            KUBECTL.replace("https://dl.k8s.io", "http://m.example:8080/k8s"),
        ),
        ({"https://dl.k8s.io/": "https://m.example/"}, KUBECTL, KUBECTL.replace("dl.k8s.io", "m.example")),
        ({"https://dl.k8s": "https://m.example"}, KUBECTL, KUBECTL),
        (
            {"https://dl.k8s.io": "https://a.example", "https://dl.k8s.io/release": "https://b.example/r"},
            KUBECTL,
            "https://b.example/r/v1.35.8/bin/linux/amd64/kubectl",
        ),
        ({KUBECTL: "https://m.example/kubectl"}, KUBECTL, "https://m.example/kubectl"),
        ({"docker.io": "m.example:5000/hub"}, "docker.io/axllent/mailpit:v1", "m.example:5000/hub/axllent/mailpit:v1"),
        ({"docker.io": "m.example"}, "https://docker.io/v2", "https://docker.io/v2"),
        ({"https://dl.k8s.io": "https://m.example"}, "", ""),
    ],
)
def test_the_longest_origin_that_fits_is_replaced(mirrors: dict[str, str], address: str, expected: str) -> None:
    assert mirrored(address, mirrors) == expected


@pytest.mark.parametrize(
    ("mirrors", "part"),
    [
        ("https://m.example", "is no table"),
        ({"https://a.example": 1}, "must be text"),
        ({"https://a.example": ""}, "is no http(s) address"),
        ({"": "https://m.example"}, "is no http(s) address"),
        ({"https://a.example": "https://"}, "is no http(s) address"),
        ({"https://a.example": "ftp://m.example"}, "is no http(s) address"),
        ({"https://a.example": "https://m example"}, "is no http(s) address"),
        ({"https://a.example": "m.example"}, "either both"),
        ({"docker.io": "https://m.example"}, "either both"),
    ],
)
def test_malformed_tables_are_refused_even_when_not_needed(mirrors: Any, part: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        mirrored("quay.io/x:1", mirrors)
    assert part in str(caught.value)


def test_credentials_are_refused_and_not_shown() -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        mirrored(KUBECTL, {"https://a.example": "https://me:secret@m.example"})
    assert "credentials" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_filter_has_its_name() -> None:
    assert FilterModule().filters() == {"mirrored": mirrored}
