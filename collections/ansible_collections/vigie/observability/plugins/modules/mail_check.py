#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: mail_check
short_description: Prove that a mail arrived, or stayed away
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Looks into a mailbox (Maildir, IMAP, Mailpit) until a mail with the given recipient, subject, text and run id is there.
  - The mailbox is not changed. No mail is marked as read, moved or deleted.
  - When no mail comes, the reason tells the nearest miss, and with O(relay) also what stops the sender at the SMTP relay.
extends_documentation_fragment:
  - vigie.observability.check
options:
  endpoint:
    description: Where the mailbox is, and how to be let in. Exactly one of O(endpoint.maildir), O(endpoint.imap), O(endpoint.url) and O(endpoint.service).
    type: dict
    required: true
    suboptions:
      maildir:
        description:
          - Path of a Maildir on the host that runs the module, the folder that has C(new) and C(cur) in it.
          - A mail arrived when its header C(X-Vigie-Received) says so, else when its file was last written.
        type: path
      imap:
        description:
          - A folder of an IMAP account. Needs O(endpoint.username) and a password.
          - IMAP tells the arrival to the second. A mail that arrived in the same second as O(since) counts as fresh, so give
            O(run_id) too where an older one could be that close.
        type: dict
        suboptions:
          host:
            description: Name or address of the server.
            type: str
            required: true
          port:
            description: TCP port.
            type: int
            default: 993
          tls:
            description: Whether TLS begins at once, by the command STARTTLS, or not at all.
            type: str
            choices: [implicit, starttls, none]
            default: implicit
          folder:
            description: Folder, as the server names it.
            type: str
            default: INBOX
      url:
        description: Base address of a Mailpit, V(http://) or V(https://), without the path of the API.
        type: str
      service:
        description: A Mailpit that is a Service of a Kubernetes cluster, reached through the API server.
        type: dict
        suboptions:
          namespace:
            description: Namespace of the Service.
            type: str
            required: true
          name:
            description: Name of the Service.
            type: str
            required: true
          port:
            description: Number or name of one of the Service's ports.
            type: str
            required: true
          scheme:
            description: Whether the service speaks TLS.
            type: str
            choices: [http, https]
            default: http
          path:
            description: What every path begins with there, such as V(/mailpit).
            type: str
            default: ""
      kubeconfig:
        description: Path of the kubeconfig for O(endpoint.service). Found like that of C(kubectl) when it is not set.
        type: path
      context:
        description: Context of the kubeconfig for O(endpoint.service). The current one when it is not set.
        type: str
      username:
        description: User name for IMAP, or for basic authentication.
        type: str
      password:
        description: Password. Prefer O(endpoint.password_file).
        type: str
      password_file:
        description: File on the host that runs the module, holding the password. A newline at its end is ignored.
        type: path
      ca_path:
        description: PEM file with the CA that signed the server's certificate.
        type: path
      validate_certs:
        description: Whether the certificate is checked.
        type: bool
        default: true
  recipient:
    description: Address that the mail is for, in its C(To), C(Cc) or the headers in which servers note the envelope.
    type: str
  sender:
    description: Address in the mail's C(From).
    type: str
  subject:
    description: Python regular expression to be found in the decoded subject.
    type: str
  body:
    description: Texts of which each must be found in the decoded text or HTML part.
    type: list
    elements: str
    default: []
  headers:
    description: Header names and the exact values they must have.
    type: dict
    default: {}
  run_id:
    description: Must be in the mail's text as C(run_id:) followed by the id, or be the value of its header C(X-Vigie-Run-Id).
    type: str
  count:
    description: Number of such mails there must be at least.
    type: int
    default: 1
  relay:
    description:
      - The SMTP relay through which the mail should have come, with the sender's credentials.
      - When no mail was found, a login there is tried, without sending anything. The first step that fails becomes the reason.
    type: dict
    suboptions:
      host:
        description: Name or address of the relay.
        type: str
        required: true
      port:
        description: TCP port. On V(465) TLS begins at once.
        type: int
        default: 587
      username:
        description: User name of the sender. Without it no login is tried.
        type: str
      password_file:
        description: File on the host that runs the module, holding the sender's password.
        type: path
      ca_path:
        description: PEM file with the CA that signed the relay's certificate.
        type: path
      starttls:
        description: Whether the sender demands STARTTLS.
        type: bool
        default: true
"""

EXAMPLES = r"""
- name: The alert's mail arrived in the local catcher
  vigie.observability.mail_check:
    endpoint:
      maildir: "{{ vigie_state_dir }}/mail/Maildir"
    recipient: oncall@example.org
    subject: '^\[FIRING\] PodCrashLoop '
    run_id: drill-20261124-110343
    since: "{{ drill_started }}"
    timeout: 30
    relay:
      host: 127.0.0.1
      port: 2525
      username: alertmanager
      password_file: "{{ vigie_state_dir }}/secrets/smtp_pass"
      ca_path: "{{ vigie_state_dir }}/tls/ca.pem"

- name: Two crashes send nothing
  vigie.observability.mail_check:
    endpoint: "{{ vigie_endpoints.mailbox }}"
    subject: PodCrashLoop
    run_id: drill-20261124-111500
    expect: absent
    timeout: 20

- name: The resolved mail reached a real account
  vigie.observability.mail_check:
    endpoint:
      imap: {host: imap.gmail.com}
      username: someone@gmail.com
      password_file: /root/gmail-app-password
    subject: '^\[RESOLVED\]'
    since: -10m
    timeout: 120
    interval: 5

- name: A mail in Mailpit
  vigie.observability.mail_check:
    endpoint:
      url: http://127.0.0.1:8025
    headers:
      X-Vigie-Alert: PodCrashLoop
    body: ["vigie/flask-metrics"]
"""

RETURN = r"""
matched:
  description: The mail was found. With O(expect=absent), it stayed away.
  returned: always
  type: bool
observed:
  description:
    - When found, C(subject), C(from), C(to), C(arrived), C(message_id) and C(headers) of
      the mail, the latter those asked for and C(X-Vigie-*). It is the first that arrived after O(since), without O(since) the newest.
    - Else C(count), the number of mails in the mailbox, and C(newest), subject, recipients and arrival of the newest three. With
      O(relay), C(mailbox) is what the reason would be without it.
    - Bodies are never returned.
  returned: always
  type: dict
  sample:
    subject: "[FIRING] PodCrashLoop vigie/flask-metrics-abcde"
    from: vigie@localhost
    to: [oncall@example.org]
    arrived: "2026-11-24T11:03:51.204Z"
    message_id: <1764000231204@localhost>
    headers:
      x-vigie-alert: PodCrashLoop
elapsed:
  description: Seconds that the check took.
  returned: always
  type: float
attempts:
  description: How often was looked.
  returned: always
  type: int
reason:
  description:
    - V(ok), one of the reasons shared by all checks, or one of these.
    - V(mailbox_unreadable), the Maildir is missing, is none, or may not be read.
    - V(mailbox_empty), nothing ever arrived.
    - V(other_recipient), V(subject_mismatch), V(run_id_mismatch), a mail differs in this alone.
    - V(stale_mail), a mail fits but arrived before O(since).
    - V(too_few), fewer than O(count).
    - V(no_match), nothing arrived since O(since), or what did differs in more than one point.
    - V(imap_login_failed), V(imap_folder_missing), V(imap_no_starttls), the IMAP server says no.
    - V(smtp_unreachable), V(smtp_no_starttls), V(smtp_tls_untrusted), V(smtp_auth_rejected), no mail came, and this step fails at the O(relay).
  returned: always
  type: str
hint:
  description: One sentence with the cause, the subjects of what did arrive, and the command that shows it. Empty when the condition holds.
  returned: always
  type: str
times:
  description: C(arrived), Unix seconds at which the mail that was found arrived, as the mailbox tells.
  returned: always
  type: dict
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.check import check_module, connect, run_check
from ansible_collections.vigie.observability.plugins.module_utils.endpoint_options import ENDPOINT_OPTIONS
from ansible_collections.vigie.observability.plugins.module_utils.mailbox import Mailbox, Maildir, MailSearch, Wanted
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import since_bound
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

if TYPE_CHECKING:
    from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
    from ansible_collections.vigie.observability.plugins.module_utils.smtp_probe import Relay

# Imports inside functions load what only one kind of mailbox needs: a check that already holds must cost next to nothing.

ENDPOINT_SPEC: dict[str, dict[str, Any]] = {
    "maildir": {"type": "path"},
    "imap": {
        "type": "dict",
        "options": {
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 993},
            "tls": {"type": "str", "choices": ["implicit", "starttls", "none"], "default": "implicit"},
            "folder": {"type": "str", "default": "INBOX"},
        },
    },
    # What a Mailpit is not asked with.
    **{name: option for name, option in ENDPOINT_OPTIONS.items() if name not in ("headers", "use_proxy")},
}

RELAY_SPEC: dict[str, dict[str, Any]] = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 587},
    "username": {"type": "str"},
    "password_file": {"type": "path", "no_log": False},
    "ca_path": {"type": "path"},
    "starttls": {"type": "bool", "default": True},
}


def secret(module: AnsibleModule, path: str, option: str) -> str:
    """Return the password kept in a file and keep it out of everything printed."""
    from ansible_collections.vigie.observability.plugins.module_utils.endpoint import read_secret

    password = read_secret(path, option)
    module.no_log_values.add(password)
    return password


def open_mailbox(module: AnsibleModule) -> Mailbox:
    """Return the mailbox of the endpoint."""
    endpoint = module.params["endpoint"]
    if endpoint["maildir"]:
        return Maildir(endpoint["maildir"])
    if endpoint["url"] or endpoint["service"]:
        from ansible_collections.vigie.observability.plugins.module_utils.mailbox_mailpit import MailpitMailbox

        return MailpitMailbox(connect(module))
    from ansible_collections.vigie.observability.plugins.module_utils.mailbox_imap import imap_mailbox

    password = endpoint["password"]
    if endpoint["password_file"]:
        password = secret(module, endpoint["password_file"], "endpoint.password_file")
    if not endpoint["username"] or not password:
        raise CheckError("bad_option", "endpoint.imap needs endpoint.username and endpoint.password_file.")
    return imap_mailbox(endpoint, password)


def relay_of(module: AnsibleModule) -> Relay | None:
    """Return the relay to try when no mail comes."""
    options = module.params["relay"]
    if not options:
        return None
    from ansible_collections.vigie.observability.plugins.module_utils.smtp_probe import Relay

    if bool(options["username"]) != bool(options["password_file"]):
        raise CheckError("bad_option", "relay.username and relay.password_file go together; give both or none.")
    if options["ca_path"] and not Path(options["ca_path"]).is_file():
        raise CheckError("bad_option", f"relay.ca_path={options['ca_path']} is no file.")
    return Relay(
        host=options["host"],
        port=options["port"],
        username=options["username"] or None,
        password=secret(module, options["password_file"], "relay.password_file") if options["password_file"] else "",
        ca_path=options["ca_path"],
        starttls=options["starttls"],
    )


def prepare(module: AnsibleModule) -> Callable[[Deadline], Verdict]:
    """Check the options and return the function that looks once."""
    params = module.params
    if params["count"] < 1:
        raise CheckError("bad_option", f"count={params['count']} is below 1.")
    try:
        subject = re.compile(params["subject"]) if params["subject"] else None
    except re.error as error:
        raise CheckError("bad_option", f"subject={params['subject']} is no regular expression ({error}).") from error
    run_id = params["run_id"]
    if run_id is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", run_id):
        raise CheckError(
            "bad_option", f"run_id={run_id!r} must be 1 to 40 letters, digits, dots, underscores and hyphens."
        )
    for name in ("recipient", "sender"):
        address = params[name]
        if address is not None and not re.fullmatch(r"[^\s<>,@]+(@[^\s<>,@]+)?", address):
            raise CheckError("bad_option", f"{name}={address!r} is no address; write it like someone@example.org.")
    wanted = Wanted(
        recipient=params["recipient"],
        sender=params["sender"],
        subject=subject,
        body=tuple(params["body"]),
        headers={str(name): str(value) for name, value in params["headers"].items()},
        run_id=run_id,
        since=since_bound(params["since"]),
    )
    look: Callable[[Deadline], Verdict] = MailSearch(open_mailbox(module), wanted, params["count"]).look
    relay = relay_of(module)
    if relay is not None and params["expect"] == "present":
        from ansible_collections.vigie.observability.plugins.module_utils.smtp_probe import blame_relay

        look = blame_relay(look, relay)
    return look


def main() -> None:
    module = check_module(
        {
            "endpoint": {
                "type": "dict",
                "required": True,
                "options": ENDPOINT_SPEC,
                "required_one_of": [["maildir", "imap", "url", "service"]],
                "mutually_exclusive": [["maildir", "imap", "url", "service"], ["password", "password_file"]],
            },
            "recipient": {"type": "str"},
            "sender": {"type": "str"},
            "subject": {"type": "str"},
            "body": {"type": "list", "elements": "str", "default": []},
            "headers": {"type": "dict", "default": {}},
            "run_id": {"type": "str"},
            "count": {"type": "int", "default": 1},
            "relay": {"type": "dict", "options": RELAY_SPEC},
        }
    )
    run_check(module, lambda: prepare(module))


if __name__ == "__main__":
    main()
