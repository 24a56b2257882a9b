"""A real RTSP server (GStreamer's) for tests, run by the system's Python, which has ``gi``:

    /usr/bin/python3 gst_rtsp_server.py '{"port": 0, "mounts": {"/gate": {"file": "/a.mp4"}}}'

A mount has ``file`` (H.264 in MP4, or MJPEG in AVI) or ``launch`` (a pipeline whose payloader is called
pay0), and may have ``loss``: the share of RTP packets that are not sent. With ``user`` and ``password``
beside ``mounts`` every mount asks for them (``digest`` true: by digest authentication). Prints its port on
the first line, and serves until killed.
"""

import json
import random
import sys
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def launch_of(mount: dict[str, Any]) -> str:
    if "launch" in mount:
        return str(mount["launch"])
    path = mount["file"]
    if path.endswith(".avi"):
        return f"( filesrc location={path} ! avidemux ! image/jpeg ! rtpjpegpay name=pay0 pt=26 )"
    return f"( filesrc location={path} ! qtdemux ! h264parse ! rtph264pay config-interval=1 name=pay0 pt=96 )"


def lose_packets(media: Any, share: float) -> None:
    chance = random.Random(1)
    pad = media.get_element().get_by_name("pay0").get_static_pad("src")
    drop, keep = Gst.PadProbeReturn.DROP, Gst.PadProbeReturn.OK
    kinds = Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST
    pad.add_probe(kinds, lambda *_: drop if chance.random() < share else keep)


def demand_password(server: Any, user: str, password: str, digest: bool) -> Any:
    """The permissions that every mount must have then."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    return permissions


def main() -> None:
    wanted = json.loads(sys.argv[1])
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(wanted["port"]))
    permissions = None
    if "user" in wanted:
        permissions = demand_password(server, wanted["user"], wanted["password"], bool(wanted.get("digest")))
    for path, mount in wanted["mounts"].items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(launch_of(mount))
        factory.set_shared("launch" in mount)
        if permissions is not None:
            factory.set_permissions(permissions)
        if mount.get("loss"):
            factory.connect("media-configure", lambda _, media, share=mount["loss"]: lose_packets(media, share))
        server.get_mount_points().add_factory(path, factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


main()
