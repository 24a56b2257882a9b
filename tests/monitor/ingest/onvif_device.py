"""An ONVIF camera made of answers: found by WS-Discovery, asked by SOAP. ``python -m … PORT NAME USER PASSWORD``.

It knows what a camera of profile S must answer to be listed, and checks the digest of the login.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENVELOPE = (
    '<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:tds="http://www.onvif.org/ver10/device/wsdl"'
    ' xmlns:trt="http://www.onvif.org/ver10/media/wsdl"><s:Body>{}</s:Body></s:Envelope>'
)
REFUSED = (
    "<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code><s:Reason>"
    '<s:Text xml:lang="en">Sender not Authorized</s:Text></s:Reason></s:Fault>'
)
NOW = (
    "<tt:UTCDateTime><tt:Time><tt:Hour>1</tt:Hour><tt:Minute>2</tt:Minute><tt:Second>3</tt:Second></tt:Time>"
    "<tt:Date><tt:Year>2026</tt:Year><tt:Month>1</tt:Month><tt:Day>2</tt:Day></tt:Date></tt:UTCDateTime>"
)
PROFILE = (
    '<trt:Profiles token="{token}" fixed="true"><tt:Name>{token}</tt:Name>'
    '<tt:VideoEncoderConfiguration token="v"><tt:Name>v</tt:Name><tt:UseCount>1</tt:UseCount>'
    "<tt:Encoding>H264</tt:Encoding><tt:Resolution><tt:Width>{width}</tt:Width><tt:Height>{height}</tt:Height>"
    "</tt:Resolution><tt:Quality>4</tt:Quality><tt:SessionTimeout>PT60S</tt:SessionTimeout>"
    "</tt:VideoEncoderConfiguration></trt:Profiles>"
)
SIZES = {"main": (1920, 1080), "sub": (640, 360), "icon": (160, 90)}


def answer(body: str, address: str, host: str) -> str:
    """What stands in the body of the answer to a request."""
    if "GetSystemDateAndTime" in body:
        return (
            "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>NTP</tt:DateTimeType>"
            f"<tt:DaylightSavings>false</tt:DaylightSavings>{NOW}</tds:SystemDateAndTime>"
            "</tds:GetSystemDateAndTimeResponse>"
        )
    if "GetServices" in body:
        names = {"device": "device", "media": "media"}
        services = "".join(
            f"<tds:Service><tds:Namespace>http://www.onvif.org/ver10/{one}/wsdl</tds:Namespace><tds:XAddr>{address}"
            "</tds:XAddr><tds:Version><tt:Major>2</tt:Major><tt:Minor>0</tt:Minor></tds:Version></tds:Service>"
            for one in names
        )
        return f"<tds:GetServicesResponse>{services}</tds:GetServicesResponse>"
    if "GetCapabilities" in body:
        return (
            f"<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Device><tt:XAddr>{address}</tt:XAddr></tt:Device>"
            f"<tt:Media><tt:XAddr>{address}</tt:XAddr><tt:StreamingCapabilities/></tt:Media></tds:Capabilities>"
            "</tds:GetCapabilitiesResponse>"
        )
    if "GetProfiles" in body:
        told = "".join(PROFILE.format(token=name, width=w, height=h) for name, (w, h) in SIZES.items())
        return f"<trt:GetProfilesResponse>{told}</trt:GetProfilesResponse>"
    if "GetStreamUri" in body:
        found = re.search(r"ProfileToken>(\w+)<", body)
        return (
            f"<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>rtsp://{host}:554/{found[1] if found else ''}</tt:Uri>"
            "<tt:InvalidAfterConnect>false</tt:InvalidAfterConnect><tt:InvalidAfterReboot>false"
            "</tt:InvalidAfterReboot><tt:Timeout>PT60S</tt:Timeout></trt:MediaUri></trt:GetStreamUriResponse>"
        )
    return REFUSED


def knows(body: str, user: str, password: str) -> bool:
    """Whether the WS-UsernameToken is that of the login (a digest over nonce, time and password)."""

    def said(name: str) -> str:
        found = re.search(rf"<[\w:]*{name}(?:\s[^>]*)?>([^<]*)<", body)
        return found[1] if found else ""

    nonce = base64.b64decode(said("Nonce"))
    digest = hashlib.sha1(nonce + said("Created").encode() + password.encode()).digest()
    return said("Username") == user and base64.b64encode(digest).decode() == said("Password")


def main() -> None:
    host, name, user, password = sys.argv[1:]
    from wsdiscovery import QName, Scope
    from wsdiscovery.publishing import ThreadedWSPublishing

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            open_to_all = "GetSystemDateAndTime" in body
            told = answer(body, address, host) if open_to_all or knows(body, user, password) else REFUSED
            content = ENVELOPE.format(told).encode()
            self.send_response(400 if told is REFUSED else 200)
            self.send_header("Content-Type", "application/soap+xml; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer((host, 0), Answers)
    address = f"http://{host}:{server.server_address[1]}/onvif/device_service"
    publishing = ThreadedWSPublishing()
    publishing.start()
    publishing.publishService(
        types=[QName("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter")],
        scopes=[Scope(f"onvif://www.onvif.org/name/{name}")],
        xAddrs=[address],
    )
    print("there", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
