# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A login attempt at an SMTP relay, to tell why no mail came."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

if TYPE_CHECKING:
    import smtplib

    from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline

SUBMISSIONS = 465
"""The port on which TLS begins at once, for Alertmanager as for everybody (RFC 8314)."""


@dataclass(frozen=True)
class Relay:
    """An SMTP relay and how the sender logs in there.

    Attributes:
        host: name or address.
        port: TCP port; 465 begins TLS at once, any other by STARTTLS.
        username: None for a relay that asks for no login.
        password: of the user.
        ca_path: PEM file with the CA of the relay, or None for the system's.
        starttls: demand STARTTLS.
    """

    host: str
    port: int
    username: str | None = None
    password: str = ""
    ca_path: str | None = None
    starttls: bool = True


def probe(relay: Relay, timeout: float) -> CheckError | None:
    """Connect, secure and log in as a sender would; no mail is sent.

    Returns:
        The first step that fails, with reason ``smtp_unreachable``, ``smtp_no_starttls``, ``smtp_tls_untrusted`` or
        ``smtp_auth_rejected``; None when all work.
    """
    import smtplib

    where = f"{relay.host}:{relay.port}"
    implicit = relay.port == SUBMISSIONS
    try:
        context = ssl.create_default_context(cafile=relay.ca_path)
    except (OSError, ValueError) as error:
        return CheckError("bad_option", f"relay.ca_path={relay.ca_path} can't be used ({error}).")
    client: smtplib.SMTP | None = None
    try:
        # Without a name of its own smtplib would ask the DNS for one, which may take long.
        if implicit:
            client = smtplib.SMTP_SSL(
                relay.host, relay.port, local_hostname="localhost", timeout=timeout, context=context
            )
        else:
            client = smtplib.SMTP(relay.host, relay.port, local_hostname="localhost", timeout=timeout)
        client.ehlo_or_helo_if_needed()
        if relay.starttls and not implicit:
            if not client.has_extn("starttls"):
                return CheckError(
                    "smtp_no_starttls",
                    f"The relay {where} doesn't offer STARTTLS, so the sender refuses to log in; try 'openssl s_client -starttls smtp "
                    f"-connect {where}', or set smtp_require_tls to false if that is wanted.",
                )
            try:
                client.starttls(context=context)
            except smtplib.SMTPResponseException as error:
                return CheckError(
                    "smtp_no_starttls", f"The relay {where} refused STARTTLS with {_said(error)}; look at its log."
                )
            client.ehlo()
        return _login(client, relay, where)
    except ssl.SSLError as error:
        detail = getattr(error, "verify_message", "") or error.reason or str(error)
        return CheckError(
            "smtp_tls_untrusted",
            f"The certificate of the relay {where} was not accepted ({detail}); set relay.ca_path, and the sender's CA file, to the CA "
            "that signed it.",
        )
    except smtplib.SMTPResponseException as error:
        return CheckError("smtp_unreachable", f"The relay {where} turned the sender away with {_said(error)}.")
    except (smtplib.SMTPException, OSError) as error:
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return CheckError(
            "smtp_unreachable",
            f"The relay {where} can't be reached ({detail}), so no mail can be sent; try 'nc -vz {relay.host} {relay.port}'.",
        )
    finally:
        if client is not None:
            client.close()


def _login(client: smtplib.SMTP, relay: Relay, where: str) -> CheckError | None:
    import smtplib

    if relay.username is None:
        return None
    try:
        client.login(relay.username, relay.password)
    except smtplib.SMTPNotSupportedError:
        return CheckError(
            "smtp_auth_rejected", f"The relay {where} takes no logins; leave out the user name, or check the port."
        )
    except smtplib.SMTPResponseException as error:
        return CheckError(
            "smtp_auth_rejected",
            f"The relay {where} rejected the login of {relay.username} with {_said(error)}; check relay.username and password_file, and "
            "that the sender has the same.",
        )
    except smtplib.SMTPException as error:
        return CheckError(
            "smtp_auth_rejected", f"The relay {where} and this host have no way to log in in common ({error})."
        )
    return None


def _said(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error.decode("utf-8", "replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
    return f"{error.smtp_code} {' '.join(str(text).split())[:120]}"


def blame_relay(look: Callable[[Deadline], Verdict], relay: Relay) -> Callable[[Deadline], Verdict]:
    """Return a look that, when the last one found nothing, tries the relay and reports what fails there instead."""

    def explained(deadline: Deadline) -> Verdict:
        failure: CheckError | None = None
        try:
            verdict = look(deadline)
        except CheckError as error:
            if not (deadline.final and error.transient):
                raise
            failure = error
            verdict = Verdict.no(error.reason, error.hint, error.observed)
        if verdict.matched or not deadline.final:
            return verdict
        trouble = probe(relay, deadline.request_timeout)
        if trouble is not None:
            seen = verdict.observed if isinstance(verdict.observed, dict) else {}
            return Verdict.no(trouble.reason, trouble.hint, {**seen, "mailbox": verdict.reason})
        if failure is not None:
            raise failure
        return verdict

    return explained
