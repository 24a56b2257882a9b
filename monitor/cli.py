"""vad-monitor: the command line. Imports of anything heavy wait until a command needs them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitor import __version__

if TYPE_CHECKING:
    from monitor.features.weights import Record

OK, RUNTIME, USAGE, BAD_CONFIG = 0, 1, 2, 78
PROBE_FPS = 15.0
"""A reader must be told an analysed rate; a probe analyses nothing."""
PROBES_AT_ONCE = 8
"""A look takes five seconds, a dead camera ten: a hundred of them one by one, a quarter of an hour."""
MOST_FPS = 120.0  # as in plant.yaml
MOST_STAGED = 64
"""Cameras of a staged plant: each has a room of its own seed, and a seed has so many."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 ok, 1 a fault while running, 2 wrong usage, 78 a mistake in the configuration."""
    _leave_no_core()
    arguments = _parser().parse_args(_with_default_command(list(sys.argv[1:] if argv is None else argv)))
    try:
        code: int = arguments.command(arguments)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nothing left to say
        return RUNTIME
    except KeyboardInterrupt:
        return RUNTIME
    return code


def _leave_no_core() -> None:
    """A core dump has every password in it: neither this process nor its children, which inherit the limit, leave one.

    1 byte, not 0: of a limit of 0 Linux takes no notice where core_pattern is a program, of 1 it does (fs/coredump.c).
    """
    import resource

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = 0 if hard == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def _with_default_command(argv: list[str]) -> list[str]:
    """`vad-monitor --cameras plant.yaml` means `vad-monitor run --cameras plant.yaml`."""
    general = {"-h", "--help", "--version"}
    if argv and argv[0].startswith("-") and argv[0] not in general:
        return ["run", *argv]
    return argv


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vad-monitor",
        description="Watches many cameras at once, scores what they see, and alerts over MQTT.",
        epilog="vad-monitor --cameras plant.yaml starts watching (the same as: vad-monitor run --cameras …).",
    )
    parser.add_argument("--version", action="version", version=f"vad-monitor {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="watch the cameras of a plant.yaml (the default command)")
    run.add_argument("--cameras", required=True, type=Path, metavar="FILE", help="the plant.yaml")
    run.add_argument("--print-config", action="store_true", help="print the settings, secrets hidden, and end")
    run.add_argument("--dry-run", action="store_true", help="do everything but speak MQTT")
    run.add_argument("--shard", default="0/1", metavar="I/N", help="watch this part of the cameras, of N, from 0 on")
    _logging(run, "info")
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="validate a plant.yaml and its artefact; every mistake at once")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(command=_check)

    audit = commands.add_parser("audit", help="who logged in, looked, judged, shelved; starts, ends and reloads")
    audit.add_argument("file", type=Path, metavar="FILE", help="the plant.yaml")
    audit.add_argument("--last", type=int, default=50, metavar="N", help="so many rows, the newest last (default: 50)")
    audit.add_argument("--json", action="store_true", help="as JSON lines")
    audit.set_defaults(command=_audit)

    probe = commands.add_parser("probe", help="open streams and say what they are, or what is wrong")
    probe.add_argument("urls", nargs="*", metavar="URL", help="streams or files")
    probe.add_argument("--cameras", type=Path, metavar="FILE", help="all cameras of a plant.yaml")
    probe.add_argument("--transport", choices=["tcp", "udp"], default="tcp", help="of the URLs given here")
    probe.add_argument("--discover", action="store_true", help="ask this network for ONVIF cameras instead")
    probe.add_argument("--seconds", type=float, default=4.0, help="with --discover: how long to listen (%(default)s)")
    probe.add_argument(
        "--login", metavar="USER", help="with --discover: asks cameras for their streams; password in $CAMERA_PASSWORD"
    )
    probe.add_argument("--out", type=Path, metavar="FILE", help="with --discover: writes a plant.yaml to begin with")
    probe.set_defaults(command=_probe)

    replay = commands.add_parser("replay", help="score recordings through the very same path")
    replay.add_argument("files", nargs="+", type=Path, metavar="FILE")
    replay.add_argument("--out", required=True, type=Path, metavar="DIR", help="for scores.csv and the curves")
    replay.add_argument("--artefact", default="default", help="folder, shipped name or auto (%(default)s)")
    replay.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    replay.add_argument("--stride", type=int, help="in segments (default: the artefact's)")
    replay.add_argument("--delay", type=int, help="in segments (default: the artefact's)")
    replay.add_argument("--max-gap", type=int, help="bridged segments a bag (default: l/8)")
    replay.add_argument("--fps", type=float, help="analysed frames a second (default: the artefact's)")
    replay.add_argument("--no-pictures", action="store_true", help="write scores.csv only")
    _logging(replay, "warning")
    replay.set_defaults(command=_replay)

    weights = commands.add_parser("weights", help="list, fetch, import or verify backbone weights")
    actions = weights.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is and what is here").set_defaults(command=_weights_list)
    fetch = actions.add_parser("fetch", help="download weights from their public address, resumable, verified")
    fetch.add_argument("backbone")
    fetch.add_argument("--sha256", help="refuse any other file")
    fetch.set_defaults(command=_weights_fetch)
    bring = actions.add_parser(
        "import", help="read a foreign .pth/.pyth/.tflite/.safetensors once, keep it as safetensors"
    )
    bring.add_argument("backbone")
    bring.add_argument("file", type=Path)
    bring.add_argument("--sha256", help="refuse any other file")
    bring.set_defaults(command=_weights_import)
    verify = actions.add_parser("verify", help="compare what is kept with what was recorded")
    verify.set_defaults(command=_weights_verify)

    demo = commands.add_parser("demo", help="a staged plant over real RTSP, watched in the terminal")
    demo.add_argument("--seed", type=int, default=1, help="which plant, which incidents (default: 1)")
    demo.add_argument("--seconds", type=float, default=0.0, help="end by itself after so long (default: never)")
    demo.add_argument("--camera-count", type=int, default=4, help="cameras of the plant (default: 4)")
    demo.add_argument("--json", type=Path, metavar="FILE", help="write incidents and alerts as JSON at the end")
    demo.set_defaults(command=_demo)
    return parser


def _logging(parser: argparse.ArgumentParser, level: str) -> None:
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default=level)
    parser.add_argument("--log-format", choices=["text", "json"], default="text")


def _set_up_log(arguments: argparse.Namespace, secrets: Sequence[str] = ()) -> None:
    from monitor.observe import log

    log.set_up(arguments.log_level, arguments.log_format == "json", secrets)


def _say(*words: object) -> None:
    print(*words, file=sys.stderr)


def _load(file: Path) -> Any:
    """The plant, or None after every mistake in it was printed."""
    from monitor import config

    try:
        return config.load(file)
    except config.ConfigError as error:
        _say(error)
        return None


@contextlib.contextmanager
def _signals_taken_early() -> Iterator[list[int]]:
    """From now on SIGTERM ends a monitor that has begun nothing with exit code 0, and SIGHUP, whose default is death,
    is remembered in the list that is yielded: the imports and the configuration take seconds."""
    import signal

    remembered: list[int] = []

    def end(*_: object) -> None:
        os.write(2, b"vad-monitor: asked to stop before it had started\n")
        os._exit(OK)  # an import cannot be unwound; nothing was begun that could be drained

    signal.signal(signal.SIGHUP, lambda number, _: remembered.append(number))
    signal.signal(signal.SIGTERM, end)
    try:
        yield remembered
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what was a clean end must not become a death


def _run(arguments: argparse.Namespace) -> int:
    with _signals_taken_early() as remembered:
        return _run_with(arguments, remembered)


def _run_with(arguments: argparse.Namespace, remembered: Sequence[int]) -> int:
    from monitor import config

    try:
        shard = config.Shard.parse(arguments.shard)
    except ValueError as error:
        _say(f"vad-monitor: --shard: {error}")
        return USAGE
    plant = _load(arguments.cameras)
    if plant is None:
        return BAD_CONFIG
    if arguments.print_config:
        print(json.dumps(config.redacted(shard.of(plant)), indent=2, ensure_ascii=False))
        return OK
    _set_up_log(arguments, plant.secrets())
    return _watch(plant, arguments.cameras, shard, remembered, dry_run=arguments.dry_run)


def _watch(plant: Any, file: Path, shard: Any, remembered: Sequence[int], *, dry_run: bool) -> int:
    """Runs a monitor until it is asked to stop; a fault that a person can mend becomes a sentence."""
    import asyncio
    import logging
    import signal

    from monitor.app import Monitor, signals

    async def live() -> None:
        monitor = Monitor(plant, file, dry_run=dry_run, shard=shard)
        with signals(monitor):
            for number in set(remembered):
                os.kill(os.getpid(), number)
            await monitor.run()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # whose default came back with the loop's handler

    try:
        asyncio.run(live())
    except _mendable() as error:
        logging.getLogger("monitor").error("%s", _placed(error))
        return BAD_CONFIG if _is_config(error) else RUNTIME
    return OK


def _mendable() -> tuple[type[Exception], ...]:
    """Errors whose text is a sentence a person can act on; every other one is shown with its traceback."""
    from monitor.alerting.broker import BrokerError
    from monitor.alerting.outbox import OutboxError
    from monitor.detectors.card import ArtefactError
    from monitor.features.backbone import BackboneError
    from monitor.observe.http import ListenError

    return ArtefactError, BackboneError, BrokerError, ListenError, OutboxError


def _is_config(error: Exception) -> bool:
    from monitor.detectors.card import ArtefactError
    from monitor.features.backbone import BackboneError

    return isinstance(error, ArtefactError | BackboneError)


def _placed(error: Exception) -> str:
    """The sentence, with the key it is about where it does not name one."""
    from monitor.detectors.card import ArtefactError

    return f"scoring.artefact: {error}" if isinstance(error, ArtefactError) else str(error)


def _check(arguments: argparse.Namespace) -> int:
    """Config first, then what it names: the artefact, whether it fits its settings, and its canary's clip."""
    plant = _load(arguments.file)
    if plant is None:
        _say_artefact_mistake(arguments.file)
        return BAD_CONFIG
    from monitor.detectors.card import read_card
    from monitor.scoring.choice import chosen
    from monitor.scoring.foresight import is_sure

    with_canary = plant.canary.every_s is not None
    try:
        scoring, why = chosen(plant.scoring)
        if not is_sure(scoring, canary=with_canary):
            _open_unless_known(scoring, with_canary)
        card = read_card(scoring.artefact)
        stride, delay = card.bag(scoring.stride, scoring.delay)
    except _mendable() as error:
        _say(f"{arguments.file}: {_placed(error)}")
        return BAD_CONFIG
    enabled = sum(camera.enabled for camera in plant.cameras)
    print(
        f"{arguments.file}: ok: {len(plant.cameras)} cameras ({enabled} enabled); artefact '{card.name}' on "
        f"{card.backbone}, l = {card.length}, stride {stride}, delay {delay}"
    )
    if why:
        print(f"{arguments.file}: {why}")
    if card.canary is None and with_canary:
        print(f"{arguments.file}: no canary: artefact '{card.name}' has none (vad-train canary adds one)")
    if card.canary is not None and with_canary and card.canary.flat:
        print(f"{arguments.file}: artefact '{card.name}': {card.canary.flat} (vad-train canary records it anew)")
    return OK


def _open_unless_known(scoring: Any, with_canary: bool) -> None:
    from monitor.scoring import proof

    before = proof.sum_of(scoring, canary=with_canary)
    if before is not None and proof.known(before):
        return
    _open(scoring, with_canary)
    # What changed while it was opened has not been proven.
    if before is not None and before == proof.sum_of(scoring, canary=with_canary):
        proof.keep(before)


def _open(scoring: Any, with_canary: bool) -> None:
    """As the monitor itself will: a check that knows less than a start would be trusted in vain."""
    from monitor.detectors.canary import clip_of
    from monitor.scoring.rings import open_rings

    artefact = open_rings(scoring, files=False).artefact
    if artefact.card.canary is not None and with_canary:
        clip_of(artefact.folder, artefact.card.canary)


def _audit(arguments: argparse.Namespace) -> int:
    from monitor.observe.audit import read, sentence

    plant = _load(arguments.file)
    if plant is None:
        return BAD_CONFIG
    if arguments.last < 1:
        _say(f"--last: expected a number above 0 (got {arguments.last})")
        return USAGE
    try:
        rows = read(plant.state_folder, arguments.last)
    except OSError as error:
        _say(f"vad-monitor audit: {error.filename}: {(error.strerror or 'cannot be read').lower()}")
        return RUNTIME
    for row in reversed(rows):
        print(json.dumps(row, ensure_ascii=False) if arguments.json else sentence(row))
    return OK


def _say_artefact_mistake(file: Path) -> None:
    """What is wrong with the artefact that a file with other mistakes names: all is said in one go."""
    from monitor.config.lines import read
    from monitor.config.plant import is_folder
    from monitor.detectors import artefact

    try:
        document = read(file.read_text(encoding="utf-8"), str(file), os.environ)
        scoring = document.data.get("scoring") if isinstance(document.data, dict) else None
        named = scoring.get("artefact") if isinstance(scoring, dict) else None
        if isinstance(named, str) and "\0" not in named:
            beside = file.parent / named
            if is_folder(named, beside):
                artefact.verify(beside)
            elif named != "auto":
                artefact.verify(named)
    except artefact.ArtefactError as error:
        _say(f"{file}:{document.places['scoring', 'artefact'].line}: scoring.artefact: {error}")
    except (OSError, UnicodeDecodeError):
        pass  # said already


def _discover(arguments: argparse.Namespace) -> int:
    from monitor.ingest import discover

    password = os.environ.get(discover.PASSWORD)
    if arguments.login is not None and not password:
        _say(f"vad-monitor probe: --login needs the password in the environment variable {discover.PASSWORD}")
        return USAGE
    if arguments.out is not None and arguments.out.exists():
        _say(f"vad-monitor probe: {arguments.out} is there already, and nothing is overwritten; name another file")
        return USAGE
    try:
        found = discover.devices(arguments.seconds)
    except discover.DiscoverError as error:
        _say(f"vad-monitor probe: {error}")
        return RUNTIME
    if arguments.login is not None and password:
        found = discover.with_streams(found, arguments.login, password)
    for device in found:
        print(device.summary if arguments.login is not None else f"{device.host} {device.name}".rstrip(), flush=True)
    if not found:
        _say("no ONVIF camera answered: is this machine in the cameras' network, is ONVIF switched on in them?")
        return RUNTIME
    if arguments.out is not None:
        arguments.out.write_text(discover.starter(found, arguments.login), encoding="utf-8")
        print(f"{arguments.out}: {len(found)} cameras in mode observe; look it through, then vad-monitor check")
    return OK


def _probe(arguments: argparse.Namespace) -> int:
    from concurrent.futures import ThreadPoolExecutor

    from monitor.config import StreamUrl
    from monitor.ingest.camera import ReaderSettings
    from monitor.ingest.probe import probe

    if arguments.discover:
        return _discover(arguments)
    looked_at: list[ReaderSettings] = []
    if arguments.cameras is not None:
        plant = _load(arguments.cameras)
        if plant is None:
            return BAD_CONFIG
        looked_at += [
            ReaderSettings.of(camera, fps=PROBE_FPS, folders=plant.ingest.file_folders) for camera in plant.cameras
        ]
    for given in arguments.urls:
        try:
            url = StreamUrl(given if "://" in given or given.startswith("/dev/") else Path(given).resolve().as_uri())
        except ValueError as error:
            _say(f"{StreamUrl.redact(given)}: {error}")
            return USAGE
        opened = url.path if url.scheme == "file" else url.secret
        looked_at.append(ReaderSettings(name=url.shown, url=opened, transport=arguments.transport, fps=PROBE_FPS))
    if not looked_at:
        _say("vad-monitor probe: name streams, or a plant.yaml with --cameras")
        return USAGE
    good = True
    with ThreadPoolExecutor(max_workers=PROBES_AT_ONCE) as probes:
        for result in probes.map(probe, looked_at):
            print(result.summary, flush=True)
            good &= result.fault is None
    return OK if good else RUNTIME


def _replay(arguments: argparse.Namespace) -> int:
    wrong = [_not_a_recording(file) for file in arguments.files if not file.is_file()]
    if arguments.out.exists() and not arguments.out.is_dir():
        wrong.append(f"--out: {arguments.out} is a file, not a folder")
    if arguments.fps is not None and not 0 < arguments.fps <= MOST_FPS:
        wrong.append(f"--fps: expected a number above 0, at most {MOST_FPS:g} (got {arguments.fps:g})")
    if wrong:
        _say("\n".join(wrong))
        return USAGE
    _set_up_log(arguments)
    from pydantic import ValidationError

    from monitor.config import Scoring

    try:
        scoring = Scoring(
            artefact=arguments.artefact,
            device=arguments.device,
            stride=arguments.stride,
            delay=arguments.delay,
            max_gap=arguments.max_gap,
        )
    except ValidationError as error:
        for wrong_one in error.errors():
            key, words = str(wrong_one["loc"][0]).replace("_", "-"), str(wrong_one["msg"]).removeprefix("Value error, ")
            _say(f"--{key}: {words[0].lower()}{words[1:]} (got {wrong_one['input']!r})")
        return USAGE
    from monitor import replay

    try:
        replayed = replay.run(
            arguments.files, arguments.out, scoring, fps=arguments.fps, pictures=not arguments.no_pictures
        )
    except _mendable() as error:
        _say(f"vad-monitor replay: {error}")
        return BAD_CONFIG if _is_config(error) else RUNTIME
    except OSError as error:
        _say(f"vad-monitor replay: {error.filename or arguments.out} cannot be written: {error.strerror or error}")
        return RUNTIME
    for one in replayed:
        if one.fault is not None:
            _say(f"{one.file}: {one.fault}")
    return RUNTIME if any(one.fault for one in replayed) else OK


def _not_a_recording(file: Path) -> str:
    if file.is_dir():
        return f"{file}: is a folder; name the files in it"
    return f"{file}: there is no such file" if not file.exists() else f"{file}: is no regular file"


def _weights_list(arguments: argparse.Namespace) -> int:
    from monitor.features import weights

    for listed in weights.listing():
        record = listed.record
        here = f"here, sha256 {record.sha256[:12]}… ({record.trust})" if record else "not here yet"
        print(f"{listed.name}: {here}; from {listed.source.url or listed.source.package or 'your own file'}")
        print(f"    {listed.source.licence}")
    return OK


def _weights_fetch(arguments: argparse.Namespace) -> int:
    from monitor.features import weights

    if not _is_backbone(arguments.backbone):
        return USAGE
    return _weights_kept(lambda: [weights.fetch(arguments.backbone, sha256=arguments.sha256)])


def _is_backbone(name: str) -> bool:
    from monitor.features import backbone

    known = name in backbone.names()
    if not known:
        _say(f"vad-monitor weights: there is no backbone '{name}'; known are {', '.join(backbone.names())}")
    return known


def _weights_import(arguments: argparse.Namespace) -> int:
    from monitor.features import weights

    if not _is_backbone(arguments.backbone):
        return USAGE
    return _weights_kept(lambda: [weights.take_in(arguments.backbone, arguments.file, sha256=arguments.sha256)])


def _weights_verify(arguments: argparse.Namespace) -> int:
    from monitor.features import weights

    kept = [listed.name for listed in weights.listing() if listed.record is not None]
    if not kept:
        print("no weights are kept yet")
    return _weights_kept(lambda: (weights.verify(name) for name in kept))


def _weights_kept(action: Callable[[], Iterable[Record]]) -> int:
    from monitor.features.backbone import BackboneError

    try:
        for record in action():
            print(f"{record.name}: ok, sha256 {record.sha256} ({record.trust}), kept as {record.kept}")
    except (BackboneError, OSError) as error:
        _say(f"vad-monitor weights: {error}")
        return RUNTIME
    return OK


def _demo(arguments: argparse.Namespace) -> int:
    wrong = []
    if arguments.seed < 0:
        wrong.append(f"--seed: expected a whole number from 0 on (got {arguments.seed})")
    if not 1 <= arguments.camera_count <= MOST_STAGED:
        wrong.append(f"--camera-count: expected 1 to {MOST_STAGED} (got {arguments.camera_count})")
    if not arguments.seconds >= 0:
        wrong.append(f"--seconds: expected a number above 0, or 0 for no end (got {arguments.seconds:g})")
    if arguments.json is not None and (arguments.json.is_dir() or not arguments.json.absolute().parent.is_dir()):
        wrong.append(f"--json: {arguments.json} cannot be a file: it is a folder, or its folder is not there")
    if wrong:
        _say("\n".join(wrong))
        return USAGE
    from monitor import demo

    try:
        return demo.run(
            seed=arguments.seed, seconds=arguments.seconds, cameras=arguments.camera_count, report=arguments.json
        )
    except _mendable() as error:
        _say(f"vad-monitor demo: {_placed(error)}")
    except OSError as error:
        if error.filename is None:
            raise
        _say(f"vad-monitor demo: {error.filename} cannot be written: {error.strerror or error}")
    return RUNTIME
