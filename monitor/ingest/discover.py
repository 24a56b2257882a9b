"""Cameras that answer on this network (ONVIF), and a first plant.yaml of them.

WS-Discovery asks everybody by multicast; each device that answers is then asked, with the login given, for its media
profiles and their stream addresses. Needs the extra ``discover``; imported by ``vad-monitor probe --discover`` only.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

NVT = ("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter")
ASK_S = 10.0
"""How long one device may take for all answers."""
ENOUGH_PX = 240
"""A picture of so many rows is enough: what is analysed is smaller, and a small stream costs little to decode."""
PASSWORD = "CAMERA_PASSWORD"  # noqa: S105 - the variable's name
"""The environment variable that has the password of ``--login``."""


class DiscoverError(RuntimeError):
    """Why nothing can be looked for, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One stream that a device offers."""

    name: str
    url: str
    """Without a login."""
    codec: str = ""
    width_px: int = 0
    height_px: int = 0

    @property
    def summary(self) -> str:
        return f"{self.url} ({self.name}: {self.codec} {self.width_px}x{self.height_px})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One that answered. ``fault``: why its streams are not known, a sentence."""

    address: str
    """http://host:port/… of its device service."""
    name: str = ""
    """What it calls itself."""
    profiles: tuple[Profile, ...] = ()
    fault: str | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.address).hostname or ""

    @property
    def best(self) -> Profile | None:
        """The smallest stream that is large enough, else the largest."""
        by_size = sorted(self.profiles, key=lambda one: one.height_px)
        return next((one for one in by_size if one.height_px >= ENOUGH_PX), by_size[-1] if by_size else None)

    @property
    def summary(self) -> str:
        """Lines for people."""
        title = f"{self.host} {self.name}".rstrip()
        if self.fault is not None:
            return f"{title}: {self.fault}"
        return "\n".join([f"{title}:", *(f"  {one.summary}" for one in self.profiles)])


def devices(seconds: float) -> list[Device]:
    """Who answers within so many seconds, by address."""
    try:
        from wsdiscovery import QName
        from wsdiscovery.discovery import ThreadedWSDiscovery
    except ImportError:
        raise DiscoverError(
            "looking for cameras needs the extra 'discover': pip install 'vad-monitor[discover]'"
        ) from None
    asking = ThreadedWSDiscovery()
    asking.start()
    try:
        answered = asking.searchServices(types=[QName(*NVT)], timeout=seconds)
    except OSError as error:
        raise DiscoverError(f"this network cannot be asked by multicast: {error.strerror or error}") from None
    finally:
        asking.stop()
    found = {}
    for service in answered:
        addresses = [address for address in service.getXAddrs() if urlsplit(address).scheme in ("http", "https")]
        if addresses:
            found[addresses[0]] = Device(address=addresses[0], name=_name_in(str(one) for one in service.getScopes()))
    return [found[address] for address in sorted(found)]


def _name_in(scopes: Any) -> str:
    """``onvif://www.onvif.org/name/Front%20gate`` → ``Front gate``."""
    names = [scope.rpartition("/name/")[2] for scope in scopes if "/name/" in scope]
    return "".join(letter for letter in unquote(names[0]) if letter.isprintable())[:64] if names else ""


def with_streams(found: Sequence[Device], login: str, password: str) -> list[Device]:
    """Each device asked for its streams."""

    async def ask_all() -> list[Device]:
        return await asyncio.gather(*(_asked(device, login, password) for device in found))

    return asyncio.run(ask_all())


async def _asked(device: Device, login: str, password: str) -> Device:
    from aiohttp import ClientError
    from onvif import ONVIFCamera, ONVIFError
    from zeep.exceptions import Error as SoapError

    parts = urlsplit(device.address)
    camera = ONVIFCamera(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), login, password)
    try:
        async with asyncio.timeout(ASK_S):
            await camera.update_xaddrs()
            media = await camera.create_media_service()
            profiles = [await _profile(media, one) for one in await media.GetProfiles()]
    except TimeoutError:
        return replace(device, fault=f"it did not answer within {ASK_S:.0f} s")
    except (ONVIFError, SoapError, ClientError, OSError, ValueError) as error:
        refused = re.search(r"auth|credential|password|sender", str(error), re.IGNORECASE) is not None
        why = "it refused the login" if refused else f"it does not answer as ONVIF says ({type(error).__name__})"
        return replace(device, fault=why)
    finally:
        await camera.close()
    kept = tuple(one for one in profiles if one is not None)
    return replace(device, profiles=kept, fault=None if kept else "it offers no stream")


async def _profile(media: Any, profile: Any) -> Profile | None:
    setup = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}
    answer = await media.GetStreamUri({"StreamSetup": setup, "ProfileToken": profile.token})
    parts = urlsplit(str(answer.Uri))
    if parts.scheme not in ("rtsp", "rtsps") or not parts.hostname:
        return None
    encoder = profile.VideoEncoderConfiguration
    size = None if encoder is None else encoder.Resolution
    return Profile(
        name=str(profile.Name),
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        codec="" if encoder is None else str(encoder.Encoding),
        width_px=0 if size is None else int(size.Width),
        height_px=0 if size is None else int(size.Height),
    )


def starter(found: Sequence[Device], login: str | None) -> str:
    """A plant.yaml to begin with: every camera in ``mode: observe``, the password in a variable."""
    taken: set[str] = set()
    cameras = []
    for device in found:
        best = device.best
        plain = re.sub(r"[^\w .-]", "-", device.name).strip(" .-") or device.host.replace(":", "-")
        name = next(one for one in (plain, *(f"{plain} {n}" for n in range(2, len(found) + 2))) if one not in taken)
        taken.add(name)
        host = f"[{device.host}]" if ":" in device.host else device.host
        # Not known: the address that most cameras have, switched off until somebody looks it up.
        cameras.append(
            {"name": name, "url": best.url}
            if best is not None
            else {"name": name, "url": f"rtsp://{host}:554/", "enabled": False}
        )
    defaults: dict[str, Any] = {"mode": "observe"}
    if login is not None:
        defaults |= {"username": login, "password": f"${{{PASSWORD}}}"}
    plant = {"site": "my-plant", "mqtt": "embedded", "defaults": defaults, "cameras": cameras}
    head = "# Written by vad-monitor probe --discover. Cameras that are not enabled did not say their address.\n"
    return head + str(yaml.safe_dump(plant, sort_keys=False, allow_unicode=True))
