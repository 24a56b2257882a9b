"""What a connection to the broker needs around it: TLS, sentences for what goes wrong, a clean end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any

import aiomqtt
from aiomqtt.exceptions import MqttConnectError

from monitor.config import Mqtt


def sentence(settings: Mqtt, fault: BaseException, worked: bool) -> str:
    """What a person can act on, without secrets. ``worked``: the connection had been made.

    aiomqtt hands over texts, not types, so texts are looked at.
    """
    name = f"MQTT broker {settings.host}:{settings.port}"
    text = str(fault.__cause__ or fault)
    if isinstance(fault, TlsError):
        return f"{name}: {fault}"
    if isinstance(fault, MqttConnectError):
        who = f"user '{settings.username}'" if settings.username else "a client without user name"
        if "ot authori" in text or "user name or password" in text:
            return f"{name} refuses {who} ({text}): check mqtt.username and mqtt.password"
        return f"{name} refuses the connection ({text})"
    if worked:
        return f"{name}: connection lost" if "Unspecified" in text else f"{name}: connection lost ({text})"
    for sign, advice in _ADVICE:
        if sign in text:
            return f"{name}: {advice} ({text})"
    return f"{name}: cannot connect ({text})"


_ADVICE = (
    ("Connection refused", "nobody listens there: is the broker running, and mqtt.port right?"),
    ("ame or service not known", "unknown host: check mqtt.host"),
    ("ame resolution", "the name cannot be looked up: check mqtt.host and the name server"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted: check mqtt.ca_file and mqtt.host"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS on this port: check mqtt.tls and mqtt.port"),
    ("reset by peer", "it hangs up at once: check mqtt.port and mqtt.tls"),
    ("EOF occurred", "it hangs up at once: check mqtt.port and mqtt.tls"),
    ("timed out", "it does not answer: check mqtt.port, mqtt.tls, and whether it wants a client certificate"),
)


class TlsError(OSError):
    """A certificate or key file of ours that cannot be used."""


class _TlsContext(ssl.SSLContext):
    """Remembers the socket it wrapped: paho forgets, and does not close, one whose handshake failed."""

    wrapped: ssl.SSLSocket | None = None

    def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        self.wrapped = super().wrap_socket(*arguments, **named)
        return self.wrapped


def tls_context(settings: Mqtt) -> ssl.SSLContext | None:
    """None without TLS. The broker's certificate and name are always verified; files are read anew at each
    connection, for certificates end. Raises TlsError with a sentence.
    """
    if not (settings.tls or settings.ca_file or settings.cert_file):
        return None
    context = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, and checks the name
    name, path = "ca_file", settings.ca_file
    try:
        if settings.ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ca_file)
        if settings.cert_file is not None:
            name, path = "cert_file", settings.cert_file
            # An encrypted key would ask at the terminal: an empty pass phrase fails instead.
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except OSError as fault:
        why = fault.strerror if not isinstance(fault, ssl.SSLError) else f"not a usable PEM file: {fault.reason}"
        raise TlsError(f"mqtt.{name} {path} cannot be used ({why})") from None
    return context


def plain(password: object) -> str | None:
    """The password itself, from a str or a pydantic SecretStr."""
    reveal = getattr(password, "get_secret_value", None)
    return None if password is None else str(reveal() if reveal is not None else password)


async def together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Runs jobs until all are done or one fails; then the others are cancelled and its error raised as it is.

    Not a TaskGroup: up to Python 3.12 that leaves its own request to cancel on the task around it, which
    then cannot be told from a request of somebody else.
    """
    tasks = [asyncio.create_task(job, name="mqtt") for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        # More than once: asyncio.wait_for, which aiomqtt uses, may swallow a cancellation in Python 3.11.
        while late := [task for task in tasks if not task.done()]:
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=0.1)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # seen


def losses(client: aiomqtt.Client) -> asyncio.Future[None]:
    """Done when the connection that ``client`` is about to make is lost; to be asked for before it is made.

    aiomqtt 2.5.1 forgets a loss that comes in the same breath as the CONNACK (a broker that takes the connection and
    then speaks nonsense), and asyncio complains of errors that nobody looked at.
    """
    for outcome in (client._connected, client._disconnected):
        outcome.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return client._disconnected


def cut(client: aiomqtt.Client) -> None:
    """Closes what is left of a connection.

    aiomqtt 2.5.1 leaves the socket and its task behind when the CONNACK never comes or the DISCONNECT
    cannot be written (a broker that hangs). There is no public way to it.
    """
    context = client._client._ssl_context
    if isinstance(context, _TlsContext) and context.wrapped is not None and client._client.socket() is None:
        context.wrapped.close()
    left = client._client.socket()
    if left is not None and left.fileno() >= 0:
        loop = asyncio.get_running_loop()
        loop.remove_reader(left.fileno())
        loop.remove_writer(left.fileno())
        left.close()
    if client._misc_task is not None:
        client._misc_task.cancel()
    if client._disconnected.done() and not client._disconnected.cancelled():
        client._disconnected.exception()  # seen: asyncio need not complain that nobody did
