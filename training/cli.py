"""vad-train: extract features, build truth, train, judge, reproduce the paper, export what the monitor loads."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from training.experiment import PROTOCOLS


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 a person's mistake said in a sentence, 2 usage."""
    from monitor.config import ConfigError

    given = sys.argv[1:] if arguments is None else list(arguments)
    asked = _parser().parse_args(given)
    asked.command_line = shlex.join(["vad-train", *given])
    try:
        asked.run(asked)
    except ConfigError as mistakes:
        sys.stderr.write(f"{mistakes}\n")
        return 1
    except (ValueError, RuntimeError, OSError) as mistake:
        sys.stderr.write(f"vad-train: {mistake}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vad-train", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _data_commands(commands)
    _experiment_commands(commands)
    _artefact_commands(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, about: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=about, description=about)


def _on_clips(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    made.add_argument("--data", type=Path, required=True, help="folder of data sets, each with a clips.csv")
    made.add_argument("--sets", default="industrial,fights", help="data sets, by comma (%(default)s)")
    return made


def _with_features(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    made.add_argument("--features", type=Path, default=Path("features"), help="where features are kept (%(default)s)")
    made.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (%(default)s)")
    return made


def _data_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    extract = _with_features(_on_clips(_command(commands, "extract", "make and keep the features of data sets")))
    extract.add_argument("--backbone", default="effnet_lite0", help="one that the monitor knows (%(default)s)")
    extract.add_argument("--fps", type=float, default=15.0, help="analysed frames a second (%(default)s)")
    extract.add_argument("--weights", type=Path, help="of the backbone (left out: what the monitor's cache has)")
    extract.add_argument("--crops", type=int, choices=(1, 2, 5, 10), default=2, help="of a picture (%(default)s)")
    extract.add_argument("--float16", action="store_true", help="keep half precision")
    extract.add_argument("--workers", type=int, default=1, help="processes; many GPUs: start it by torchrun")
    extract.add_argument("--vggish", type=Path, metavar="WEIGHTS", help="sound too, by VGGish with these weights")
    extract.add_argument("--vggish-pca", type=Path, metavar="FILE", help="the published PCA of VGGish")
    extract.set_defaults(run=_extract)

    truth = _command(commands, "truth", "frame truth of a data set, out of its own annotation")
    truth.add_argument("name", help="ucf_crime, shanghaitech, xd_violence, ped2, pets2009_i3d or accidents")
    truth.add_argument("--source", type=Path, required=True, help="the data set's folder: lists and annotation")
    truth.add_argument("--out", type=Path, help="the npz to write (SOURCE/frame_truth.npz)")
    truth.add_argument("--frames", type=Path, help="how long videos are: CSV, npz, or a folder of videos or features")
    truth.set_defaults(run=_truth)


def _experiment_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = _command(commands, "train", "train what a file says, resumable, and print its results")
    train.add_argument("config", type=Path, help="experiment.yaml")
    train.set_defaults(run=_train)

    evaluate = _command(commands, "evaluate", "the results of an experiment, or of a monitor's replay")
    evaluate.add_argument("config", type=Path, nargs="?", help="experiment.yaml whose runs are there")
    evaluate.add_argument("--replay", type=Path, nargs="+", metavar="CSV", help="tables of vad-monitor replay")
    evaluate.add_argument("--data", type=Path, help="with --replay: folder of data sets, each with a clips.csv")
    evaluate.add_argument("--sets", default="industrial,fights", help="with --replay: data sets (%(default)s)")
    evaluate.set_defaults(run=_evaluate)

    reproduce = _command(commands, "reproduce", "the paper's tables and figures, or the leaderboard on real clips")
    reproduce.add_argument("what", nargs="+", help="table1 … table5, figure4 … figure7, paper (all of them), or local")
    reproduce.add_argument("--data", type=Path, required=True, help="folder of the data sets, see training/README.md")
    reproduce.add_argument("--results", type=Path, default=Path("results"), help="runs, figures (%(default)s)")
    reproduce.add_argument("--features", type=Path, default=Path("features"), help="local: features (%(default)s)")
    reproduce.add_argument("--seeds", type=int, default=5, help="how many (%(default)s)")
    reproduce.add_argument("--protocols", default=",".join(PROTOCOLS), help="by comma (%(default)s)")
    reproduce.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (%(default)s)")
    reproduce.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    reproduce.add_argument(
        "--resident", choices=("float32", "float16"), default="float32", help="features on the device"
    )
    reproduce.add_argument("--trial", type=int, metavar="STEPS", help="so few steps, to see that everything is there")
    reproduce.add_argument("--part", action="store_true", help="the data sets are parts of the published ones")
    reproduce.add_argument("--backbones", default="effnet_lite0", help="local: by comma (%(default)s)")
    reproduce.add_argument("--all-detectors", action="store_true", help="local: partners too, not the core alone")
    reproduce.set_defaults(run=_reproduce)


def _artefact_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = _command(commands, "export", "an experiment's detector or ensemble as an artefact the monitor loads")
    export.add_argument("config", type=Path, help="experiment.yaml whose runs are there")
    export.add_argument("--name", required=True, help="detector or ensemble of the file")
    export.add_argument("--seed", type=int, default=0)
    export.add_argument("--protocol", choices=PROTOCOLS, default="last")
    export.add_argument("--out", type=Path, required=True, help="folder of the artefact")
    export.add_argument("--terms", default="Use as the data's licence allows.", help="terms of use, for the card")
    export.set_defaults(run=_export)

    default = _with_features(
        _on_clips(_command(commands, "default", "train an artefact as the shipped ones were: folds, floors, export"))
    )
    default.add_argument(
        "--backbone",
        choices=("effnet_lite0", "movinet_a0_stream"),
        default="effnet_lite0",
        help="whose features are scored (%(default)s)",
    )
    default.add_argument("--seeds", type=int, default=3, help="how many seeds (%(default)s)")
    default.add_argument("--out", type=Path, required=True, help="folder of the artefact")
    default.add_argument(
        "--folds", type=Path, metavar="DIR", help="keep the cross-validation's models too, an artefact a fold"
    )
    default.add_argument(
        "--staged", type=Path, metavar="DIR", help="learn from generated clips too; they are rendered into DIR once"
    )
    default.set_defaults(run=_default)

    canary = _command(commands, "canary", "give an artefact the clip that the monitor tries itself out with")
    canary.add_argument("artefact", type=Path, help="folder of the artefact")
    canary.set_defaults(run=lambda asked: _canary(asked.artefact))

    latency = _with_features(_on_clips(_command(commands, "latency", "the accuracy-latency curve on joined streams")))
    latency.add_argument("--seeds", type=int, default=3, help="how many seeds (%(default)s)")
    latency.add_argument("--bags", default="2,4,6,8", help="the l to try, by comma (%(default)s)")
    latency.add_argument("--figure", type=Path, required=True, help="where the picture goes (.svg or .png)")
    latency.set_defaults(run=_latency)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _extract(asked: argparse.Namespace) -> None:
    from training import catalogue, extract, vggish

    videos = catalogue.local(asked.data, asked.sets.split(","))
    done = extract.run(
        videos,
        asked.data,
        asked.features,
        backbone=asked.backbone,
        device=asked.device,
        weights=asked.weights,
        fps=asked.fps,
        crops=asked.crops,
        as_float16=asked.float16,
        workers=asked.workers,
    )
    _say(f"{len(done.made)} videos made, {len(done.skipped)} were there, {done.segments} segments: {done.folder}")
    if asked.vggish is not None:
        heard = vggish.run(
            videos, asked.data, done.folder, weights=asked.vggish, pca=asked.vggish_pca, device=asked.device
        )
        _say(f"sound of {len(heard.made)} videos made, {len(heard.skipped)} were there")


def _truth(asked: argparse.Namespace) -> None:
    from training import truth

    out = asked.out or asked.source / "frame_truth.npz"
    built = truth.run(asked.name, asked.source, out, asked.frames)
    _say(f"{built.version} → {out}")


def _train(asked: argparse.Namespace) -> None:
    from training import config, experiment

    settings = config.load(asked.config)
    material = settings.material()
    experiment.run(material, settings.plan(), settings.out, _note)
    _results(asked)


def _results(asked: argparse.Namespace) -> None:
    from training import config, experiment

    settings = config.load(asked.config)
    material, plan = settings.material(), settings.plan()
    found = experiment.results(material, plan, settings.out)
    content = experiment.as_json(material, plan, found)
    (settings.out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _say(f"{material.truth.version}; seeds {', '.join(map(str, plan.seeds))}; commit {content['commit'][:12]}")
    _say(experiment.text(material, found))


def _evaluate(asked: argparse.Namespace) -> None:
    if (asked.config is None) == (asked.replay is None):
        raise ValueError("evaluate needs an experiment.yaml, or --replay with tables of vad-monitor replay")
    if asked.config is not None:
        _results(asked)
        return
    if asked.data is None:
        raise ValueError("--replay needs --data, the folder with the sets' clips.csv")
    from training import catalogue, evaluate, report

    videos = catalogue.local(asked.data, asked.sets.split(","))
    scores = evaluate.replayed(videos, evaluate.read_replays(asked.replay))
    judged = {}
    for source in asked.sets.split(","):
        here = [index for index, video in enumerate(videos) if video.source == source]
        judged[source] = {"replay": report.row([videos[index] for index in here], scores[None, here])}
    _say(report.text(judged))


def _reproduce(asked: argparse.Namespace) -> None:
    from training import leaderboard, paper

    wanted = list(dict.fromkeys(one for what in asked.what for one in (paper.ALL if what == "paper" else [what])))
    unknown = [one for one in wanted if one not in paper.ALL and one != "local"]
    if unknown:
        raise ValueError(f"there is no {unknown[0]}; known are {', '.join(paper.ALL)}, paper and local")
    protocols = tuple(asked.protocols.split(","))
    if not set(protocols) <= set(PROTOCOLS):
        raise ValueError(f"--protocols {asked.protocols}: known are {', '.join(PROTOCOLS)}")
    for one in wanted:
        if one == "local":
            leaderboard.reproduce(
                asked.data,
                asked.features,
                asked.results / "local",
                backbones=asked.backbones.split(","),
                seeds=range(asked.seeds),
                everything=asked.all_detectors,
                device=asked.device,
                say=_say,
                note=_note,
            )
            continue
        settings = paper.Settings(
            data=asked.data,
            results=asked.results,
            seeds=range(asked.seeds),
            protocols=protocols,
            device=asked.device,
            precision=asked.precision,
            resident=asked.resident,
            trial=asked.trial,
            whole=not asked.part,
            told=_note,
        )
        text = paper.ALL[one](settings)
        asked.results.mkdir(parents=True, exist_ok=True)
        (asked.results / f"{one}.md").write_text(text + "\n", encoding="utf-8")
        _say(text + "\n")


def _export(asked: argparse.Namespace) -> None:
    from training import config, export

    card = export.of_experiment(
        config.load(asked.config),
        asked.name,
        asked.seed,
        asked.protocol,
        asked.out,
        terms=asked.terms,
        command=asked.command_line,
    )
    _say(f"{', '.join(part.kind for part in card.detectors)} on {card.backbone} → {asked.out}")
    _with_canary(asked.out)


def _default(asked: argparse.Namespace) -> None:
    from monitor.features import backbone
    from training import catalogue, default, extract, report, staged

    videos = catalogue.local(asked.data, asked.sets.split(","))
    encoder = backbone.create(asked.backbone, asked.device)
    fps = default.RECIPES[asked.backbone].fps
    features = extract.extract(videos, asked.data, asked.features, encoder, fps, mirrored=True)
    extra: tuple[catalogue.Video, ...] = ()
    if asked.staged is not None:
        extra = staged.render(asked.staged)
        made = extract.extract(extra, asked.staged, asked.features, encoder, fps, mirrored=True)
        features = {**features, **made}
    card, table = default.make(
        asked.out,
        videos,
        extra,
        features,
        encoder,
        seeds=range(asked.seeds),
        command=asked.command_line,
        folds=asked.folds,
    )
    _say(report.text(table) + "\n")
    _say(f"thresholds {card.thresholds}\n{json.dumps(card.metrics['at_thresholds'], indent=1)}")
    _say(f"artefact in {asked.out}")
    _with_canary(asked.out)


def _canary(folder: Path) -> None:
    from training import canary

    canary.add(folder, _say)


def _with_canary(folder: Path) -> None:
    """Where the backbone's weights are at hand."""
    try:
        _canary(folder)
    except ValueError as reason:
        _note(f"no canary yet ({reason}): add it with vad-train canary {folder}")


def _latency(asked: argparse.Namespace) -> None:
    from monitor.features import backbone
    from monitor.flow import FRAMES_PER_SEGMENT
    from training import catalogue, default, extract, figures, joined

    recipe = default.RECIPES["effnet_lite0"]
    videos = catalogue.local(asked.data, asked.sets.split(","))
    encoder = backbone.create("effnet_lite0")
    features = extract.extract(videos, asked.data, asked.features, encoder, recipe.fps, mirrored=True)
    lengths = [int(length) for length in asked.bags.split(",")]
    points = joined.curve(videos, features, recipe, range(asked.seeds), lengths)
    segment_s = FRAMES_PER_SEGMENT / recipe.fps
    figures.accuracy_latency(points, asked.figure, chosen=(recipe.bag, recipe.delay), segment_s=segment_s)
    _say(joined.table(points))


if __name__ == "__main__":
    sys.exit(main())
