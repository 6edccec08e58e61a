# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The options of endpoints, apart from what reaches them: a module that needs no HTTP doesn't load it for its argument spec."""

from __future__ import annotations

from typing import Any

ENDPOINT_OPTIONS: dict[str, dict[str, Any]] = {
    "url": {"type": "str"},
    "service": {
        "type": "dict",
        "options": {
            "namespace": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "port": {"type": "str", "required": True},
            "scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
            "path": {"type": "str", "default": ""},
        },
    },
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "password_file": {"type": "path", "no_log": False},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "headers": {"type": "dict", "default": {}},
    "use_proxy": {"type": "bool", "default": False},
}
"""Suboptions of every ``endpoint``; documented once in the doc fragment ``endpoint``."""
