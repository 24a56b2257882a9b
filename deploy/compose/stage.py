"""The staged plant alone: four generated rooms over RTSP on 127.0.0.1, until SIGTERM. Usage: stage.py PORT"""

from __future__ import annotations

import signal
import sys
import threading

from monitor.stage.plant import StagedPlant


def main(port: int) -> None:
    asked_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_end.set())
    with StagedPlant(seed=1, cameras=4, port=port) as plant:
        for camera, url in plant.urls.items():
            print(f"{camera}: {url}", flush=True)
        asked_to_end.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
