"""vad-train: extract features, judge a recipe, train the default artefact, evaluate a replay."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 a person's mistake said in a sentence, 2 usage."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    asked = _parser().parse_args(given)
    asked.command_line = shlex.join(["vad-train", *given])
    try:
        asked.run(asked)
    except (ValueError, RuntimeError, OSError) as mistake:
        sys.stderr.write(f"vad-train: {mistake}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vad-train", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=about)
        made.add_argument("--data", type=Path, required=True, help="folder of data sets, each with a clips.csv")
        made.add_argument("--sets", default="industrial,fights", help="data sets, by comma (%(default)s)")
        return made

    def with_features(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made.add_argument("--features", type=Path, default=Path("features"), help="where features are kept")
        made.add_argument("--seeds", type=int, default=3, help="how many seeds (%(default)s)")
        return made

    extract = command("extract", "make and keep the features of data sets")
    extract.add_argument("--features", type=Path, default=Path("features"), help="where features are kept")
    extract.add_argument("--backbone", default="effnet_lite0")
    extract.add_argument("--device", default="cpu")
    extract.add_argument("--fps", type=float, default=15.0, help="analysed frames a second (%(default)s)")
    extract.set_defaults(run=_extract)

    default = with_features(command("default", "train the default artefact: features, folds, floors, export"))
    default.add_argument("--out", type=Path, required=True, help="folder of the artefact")
    default.add_argument("--device", default="cpu")
    default.add_argument(
        "--folds", type=Path, metavar="DIR", help="keep the cross-validation's models too, an artefact a fold"
    )
    default.add_argument(
        "--staged", type=Path, metavar="DIR", help="learn from generated clips too; they are rendered into DIR once"
    )
    default.set_defaults(run=_default)

    latency = with_features(command("latency", "the accuracy-latency curve on joined streams, by l and delay"))
    latency.add_argument("--bags", default="2,4,6,8", help="the l to try, by comma (%(default)s)")
    latency.add_argument("--figure", type=Path, required=True, help="where the picture goes (.svg or .png)")
    latency.set_defaults(run=_latency)

    evaluate = command("evaluate", "clip AUC of a table that `vad-monitor replay` wrote")
    evaluate.add_argument(
        "--replay", type=Path, required=True, nargs="+", metavar="CSV", help="its tables: file,segment,...,score,..."
    )
    evaluate.set_defaults(run=_evaluate)
    return parser


def _extract(asked: argparse.Namespace) -> None:
    from monitor.features import backbone
    from training import catalogue, extract

    videos = catalogue.local(asked.data, asked.sets.split(","))
    made = extract.extract(
        videos, asked.data, asked.features, backbone.create(asked.backbone, asked.device), asked.fps, mirrored=True
    )
    sys.stdout.write(f"{len(made)} videos, {sum(map(len, made.values()))} segments in {asked.features}\n")


def _default(asked: argparse.Namespace) -> None:
    from monitor.features import backbone
    from training import catalogue, default, extract, report, staged

    videos = catalogue.local(asked.data, asked.sets.split(","))
    encoder = backbone.create(default.BACKBONE, asked.device)
    features = extract.extract(videos, asked.data, asked.features, encoder, default.RECIPE.fps, mirrored=True)
    extra: tuple[catalogue.Video, ...] = ()
    if asked.staged is not None:
        extra = staged.render(asked.staged)
        made = extract.extract(extra, asked.staged, asked.features, encoder, default.RECIPE.fps, mirrored=True)
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
    sys.stdout.write(report.text(table) + "\n\n")
    sys.stdout.write(f"thresholds {card.thresholds}\n{json.dumps(card.metrics['at_thresholds'], indent=1)}\n")
    sys.stdout.write(f"artefact in {asked.out}\n")


def _latency(asked: argparse.Namespace) -> None:
    from monitor.features import backbone
    from monitor.flow import FRAMES_PER_SEGMENT
    from training import catalogue, default, extract, figures, joined

    recipe = default.RECIPE
    videos = catalogue.local(asked.data, asked.sets.split(","))
    encoder = backbone.create(default.BACKBONE)
    features = extract.extract(videos, asked.data, asked.features, encoder, recipe.fps, mirrored=True)
    lengths = [int(length) for length in asked.bags.split(",")]
    points = joined.curve(videos, features, recipe, range(asked.seeds), lengths)
    segment_s = FRAMES_PER_SEGMENT / recipe.fps
    figures.accuracy_latency(points, asked.figure, chosen=(recipe.bag, recipe.delay), segment_s=segment_s)
    sys.stdout.write(joined.table(points) + "\n")


def _evaluate(asked: argparse.Namespace) -> None:
    import numpy as np
    import numpy.typing as npt

    from training import catalogue, evaluate, report

    videos = catalogue.local(asked.data, asked.sets.split(","))
    scores_of_file: dict[str, npt.NDArray[np.float64]] = {}
    for table in asked.replay:
        of_table = evaluate.read_replay(table)
        twice = scores_of_file.keys() & of_table.keys()
        if twice:
            raise ValueError(f"{table}: {sorted(twice)[0]} was scored in an earlier table already")
        scores_of_file |= of_table
    scores = evaluate.replayed(videos, scores_of_file)
    judged = {}
    for source in asked.sets.split(","):
        here = [index for index, video in enumerate(videos) if video.source == source]
        judged[source] = {"replay": report.row([videos[index] for index in here], scores[None, here])}
    sys.stdout.write(report.text(judged) + "\n")


if __name__ == "__main__":
    sys.exit(main())
