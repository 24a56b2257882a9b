"""Every table and figure of the paper, a function each: ours beside what is published.

Watanabe, Okabe, Harada, Kashima: real-world anomaly detection by integrating long-term and short-term classification
(ICIP 2022, arXiv 2209.06435). Published numbers are the paper's own tables (frame AUC in percent; average precision on
XD-Violence), with two additions that later work published on the same features: UR-DMU's.

The paper chose weights on the test set. So the column to lay beside it is ``paper-test-selected``; what one may expect
of new videos stands in ``validation`` and ``last``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from training import datasets, experiment, figures, measure, truth
from training import features as feature_files
from training.config import feature_folder
from training.experiment import ExperimentError, Material, Plan, Protocol, Result
from training.fit import Precision
from training.train import DetectorRecipe

CLASSIFIER = DetectorRecipe(kind="video_classifier", schedule={"sampling": "epochs"})
DAGGER = replace(CLASSIFIER, arguments={"recurrent": 256})
DETECTORS: dict[str, DetectorRecipe] = {
    "video_classifier": CLASSIFIER,
    "video_classifier_dagger": DAGGER,
    "bilstm_classifier": DetectorRecipe(kind="bilstm_classifier", schedule={"sampling": "epochs"}),
    "bilstm_mil": DetectorRecipe(kind="bilstm_mil"),
    "rtfm": DetectorRecipe(kind="rtfm"),
    "sultani": DetectorRecipe(kind="sultani"),
    "ur_dmu": DetectorRecipe(kind="ur_dmu"),
}
"""All with their published schedules."""
ENSEMBLES: dict[str, dict[str, float]] = {
    "ours": {"video_classifier": 1.0, "bilstm_mil": 1.0},
    "ours_dagger": {"video_classifier_dagger": 1.0, "bilstm_mil": 1.0},
    "rtfm+video_classifier": {"rtfm": 1.0, "video_classifier": 1.0},
    "rtfm+bilstm_mil": {"rtfm": 1.0, "bilstm_mil": 1.0},
    "rtfm+ours, thirds": {"rtfm": 1.0, "video_classifier": 1.0, "bilstm_mil": 1.0},
    "rtfm+ours, halves": {"rtfm": 2.0, "video_classifier": 1.0, "bilstm_mil": 1.0},
}
NAMES = {
    "video_classifier": "Video Classifier",
    "video_classifier_dagger": "Video Classifier†",
    "bilstm_classifier": "Bi-LSTM alone",
    "bilstm_mil": "Bi-LSTM+MIL",
    "ours": "Ours (mean)",
    "ours_dagger": "Ours† (mean)",
    "rtfm": "RTFM",
    "sultani": "Sultani",
    "ur_dmu": "UR-DMU",
    "rtfm+video_classifier": "RTFM + Video Classifier",
    "rtfm+bilstm_mil": "RTFM + Bi-LSTM+MIL",
    "rtfm+ours, thirds": "RTFM + Ours (equal thirds)",
    "rtfm+ours, halves": "RTFM + Ours (halves)",
}
LENGTHS = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128)
"""l of Figs. 5 and 6."""
SHOWN = ("Explosion010", "Stealing079", "Normal_Videos_034", "RoadAccidents012")
"""The videos of Fig. 7."""

SETS = {
    "UCF-Crime": ("ucf_crime", False),
    "ShanghaiTech": ("shanghaitech", False),
    "XD-Violence RGB": ("xd_violence", False),
    "XD-Violence RGB+VGGish": ("xd_violence", True),
}
"""Column → data set, and whether its sound is heard too."""

PUBLISHED: dict[str, dict[str, float]] = {
    "UCF-Crime": {
        "bilstm_classifier": 81.72, "video_classifier": 83.96, "video_classifier_dagger": 83.28, "bilstm_mil": 83.14,
        "ours": 84.72, "rtfm": 84.30, "sultani": 75.41, "ur_dmu": 86.97, "rtfm+video_classifier": 85.21,
        "rtfm+bilstm_mil": 84.24, "rtfm+ours, thirds": 85.11, "rtfm+ours, halves": 85.11,
    },
    "ShanghaiTech": {
        "bilstm_classifier": 92.90, "video_classifier": 95.40, "video_classifier_dagger": 94.06, "bilstm_mil": 94.06,
        "ours": 96.28, "rtfm": 97.21, "rtfm+video_classifier": 97.14, "rtfm+bilstm_mil": 97.40,
        "rtfm+ours, thirds": 97.48, "rtfm+ours, halves": 97.48,
    },
    "XD-Violence RGB": {
        "video_classifier": 75.13, "bilstm_mil": 73.30, "ours": 74.99, "rtfm": 77.81, "sultani": 73.20, "ur_dmu": 81.66,
    },
    "XD-Violence RGB+VGGish": {
        "bilstm_classifier": 75.92, "video_classifier": 75.43, "video_classifier_dagger": 78.75, "bilstm_mil": 80.54,
        "ours": 81.06, "ours_dagger": 82.13,
    },
}  # fmt: skip
"""Percent. Sultani's are on C3D; the two weightings of RTFM with ours share the one published number, as the paper does
not say which it took."""
LITERATURE: dict[str, dict[str, float]] = {
    "UCF-Crime": {
        "SVM baseline": 50.00, "Conv-AE": 50.60, "Zhang (C3D)": 78.66, "Motion-Aware (PWC flow)": 79.00,
        "GCN-Anomaly (TSN)": 82.12, "MIST (I3D)": 82.30, "Wu (HL-Net)": 82.44, "CLAWS (C3D)": 83.03,
        "RTFM (C3D)": 83.28,
    },
    "ShanghaiTech": {
        "Mem-AE": 50.60, "Conv-AE": 60.85, "VEC": 74.80, "Zhang (I3D)": 82.50, "GCN-Anomaly (TSN)": 84.44,
        "CLAWS (C3D)": 89.67, "AR-Net (I3D RGB and flow)": 91.24, "RTFM (C3D)": 91.51, "MIST (I3D)": 94.83,
    },
    "XD-Violence RGB": {"Hasan": 30.77, "SVM baseline": 50.78, "Wu (HL-Net)": 75.68},
    "XD-Violence RGB+VGGish": {"Wu (HL-Net)": 78.64, "Pang": 81.69},
}  # fmt: skip
"""Percent, as the paper cites them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the data lie, where results go, and how much is run."""

    data: Path
    """Has ``ucf_crime/``, ``shanghaitech/`` and ``xd_violence/``, each with lists, frame truth and features."""
    results: Path
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    protocols: Sequence[Protocol] = experiment.PROTOCOLS
    device: str = "cpu"
    precision: Precision = "float32"
    resident: Any = "float32"
    trial: int | None = None
    """So many steps with batches of 2 and 2 videos, to see that all is there; every table says that it is no result."""
    whole: bool = True
    """The published number of videos must be there."""
    told: Callable[[str], None] = field(default=lambda line: None)

    @property
    def rounds(self) -> int:
        """Of the bootstrap."""
        return 1000 if self.trial is None else 50


def material(settings: Settings, column: str) -> Material:
    """A data set of the paper. Raises a sentence that says which file in which layout is missing, and who has it."""
    name, audio = SETS[column]
    folder = settings.data / name
    page = datasets.of(name)
    videos = datasets.read(name, folder, whole=settings.whole)
    kept = settings.results / "features" / _folder(column)
    lie = feature_folder(folder)
    found = feature_files.load(lie, videos, audio=lie if audio else None, keep=kept)
    tested = tuple(video for video in videos if video.split == "test")
    return Material(
        name=column,
        learnt=tuple(video for video in videos if video.split == "train"),
        tested=tested,
        features=found,
        truth=truth.read(folder / "frame_truth.npz").of(video.id for video in tested),
        headline="ap" if page.measure == "AP" else "auc",
        sound=audio,
        fps=24.0 if name in ("xd_violence", "shanghaitech") else 30.0,
    )


def plan(settings: Settings, names: Sequence[str], lengths: Sequence[int] = (32,)) -> Plan:
    """Detectors and ensembles by name, with the detectors that the ensembles are made of."""
    needed = {detector for name in names for detector in ENSEMBLES.get(name, {name: 1.0})}
    return Plan(
        detectors={name: _shortened(DETECTORS[name], settings.trial) for name in DETECTORS if name in needed},
        ensembles={name: ENSEMBLES[name] for name in names if name in ENSEMBLES},
        seeds=settings.seeds,
        lengths=lengths,
        protocols=settings.protocols,
        device=settings.device,
        precision=settings.precision,
        resident=settings.resident,
    )


def _shortened(recipe: DetectorRecipe, trial: int | None) -> DetectorRecipe:
    if trial is None:
        return recipe
    short = {"steps": trial, "evaluate_every": max(1, trial // 2), "half_batch": 2}
    return replace(recipe, schedule={**recipe.schedule, **short})


def _stamp(settings: Settings) -> str:
    return "" if settings.trial is None else f" **{settings.trial} steps: a trial, not a result.**"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: str
    published: float | None
    ours: dict[Protocol, Result]


def rows(settings: Settings, column: str, names: Sequence[str]) -> list[Row]:
    """Runs what is missing, and lays our numbers beside the published ones."""
    made, wanted = material(settings, column), plan(settings, names)
    out = settings.results / _folder(column)
    experiment.run(made, wanted, out, settings.told)
    return [
        Row(
            name=NAMES[name],
            published=PUBLISHED[column].get(name),
            ours={
                protocol: experiment.result(made, wanted, out, name, protocol, 32, rounds=settings.rounds)
                for protocol in wanted.protocols
            },
        )
        for name in names
    ]


def _folder(column: str) -> str:
    return column.lower().replace(" ", "-").replace("+", "-")


def _table(settings: Settings, title: str, parts: Mapping[str, Sequence[Row]], *, literature: bool = False) -> str:
    """Markdown: for each data set, the published number and ours under each protocol, mean ± sd over seeds."""
    stamp = _stamp(settings)
    lines = [f"**{title}** {len(settings.seeds)} seeds, mean ± sd; [95 % over test videos].{stamp}", ""]
    protocols = list(settings.protocols)
    lines += [
        "| | | published | " + " | ".join(f"ours, {p}" for p in protocols) + " |",
        "|---" * (3 + len(protocols)) + "|",
    ]
    for column, made in parts.items():
        for name, number in LITERATURE[column].items() if literature else ():
            lines.append(f"| {column} | {name} | {number:.2f} |" + " |" * len(protocols))
        for row in made:
            published = "–" if row.published is None else f"{row.published:.2f}"
            cells = [_cell(row.ours[protocol], column) for protocol in protocols]
            lines.append(f"| {column} | {row.name} | {published} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(one: Result, column: str) -> str:
    key = "ap" if column.startswith("XD") else "auc"
    spread = "" if len(one.seeds) == 1 else f" ± {100 * one.sd(key):.2f}"
    interval = "" if one.interval is None else f" [{100 * one.interval[0]:.1f}, {100 * one.interval[1]:.1f}]"
    # On XD-Violence both readings of the precision-recall curve: much published code takes trapezoids.
    both = f" (trapezoids {100 * one.mean('ap_trapezoid'):.2f})" if key == "ap" else ""
    return f"{100 * one.mean(key):.2f}{spread}{interval}{both}"


def table1(settings: Settings) -> str:
    """Video Classifier with a Bi-LSTM alone, with attention alone, with both (the paper's Table 1)."""
    names = ("bilstm_classifier", "video_classifier", "video_classifier_dagger")
    columns = ("UCF-Crime", "ShanghaiTech", "XD-Violence RGB+VGGish")
    return _table(settings, "Table 1, Video Classifier.", {c: rows(settings, c, names) for c in columns})


PARTNERS = ("sultani", "rtfm", "ur_dmu", "video_classifier", "bilstm_mil", "ours")


def table2(settings: Settings) -> str:
    """Frame AUC on UCF-Crime (the paper's Table 2)."""
    return _table(
        settings,
        "Table 2, UCF-Crime, frame AUC %.",
        {"UCF-Crime": rows(settings, "UCF-Crime", PARTNERS)},
        literature=True,
    )


def table3(settings: Settings) -> str:
    """Frame AUC on ShanghaiTech, Zhong's split (the paper's Table 3)."""
    parts = {"ShanghaiTech": rows(settings, "ShanghaiTech", PARTNERS)}
    return _table(settings, "Table 3, ShanghaiTech, frame AUC %.", parts, literature=True)


def table4(settings: Settings) -> str:
    """Frame average precision on XD-Violence, without and with sound (the paper's Table 4)."""
    with_sound = ("video_classifier", "video_classifier_dagger", "bilstm_mil", "ours", "ours_dagger")
    parts = {
        "XD-Violence RGB": rows(settings, "XD-Violence RGB", PARTNERS),
        "XD-Violence RGB+VGGish": rows(settings, "XD-Violence RGB+VGGish", with_sound),
    }
    return _table(settings, "Table 4, XD-Violence, frame average precision %.", parts, literature=True)


def table5(settings: Settings) -> str:
    """RTFM joined with ours (the paper's Table 5); with Ours in equal thirds and in halves, as the text is silent."""
    names = ("rtfm", "rtfm+video_classifier", "rtfm+bilstm_mil", "rtfm+ours, thirds", "rtfm+ours, halves")
    columns = ("UCF-Crime", "ShanghaiTech")
    return _table(settings, "Table 5, with RTFM, frame AUC %.", {c: rows(settings, c, names) for c in columns})


# -- figures -----------------------------------------------------------------------------------------------------------


def _judged(settings: Settings, column: str, names: Sequence[str]) -> dict[str, list[measure.Judged]]:
    """The seeds' mean scores of the first protocol, of every name."""
    made, wanted = material(settings, column), plan(settings, names)
    out = settings.results / _folder(column)
    experiment.run(made, wanted, out, settings.told)
    found = {}
    for name in names:
        of_seed = [experiment.scores(wanted, out, name, wanted.protocols[0], 32, seed) for seed in wanted.seeds]
        found[name] = experiment.judged(made, np.mean(of_seed, axis=0, dtype=np.float32))
    return found


def figure4(settings: Settings) -> str:
    """AUC by class of anomaly on UCF-Crime, ours beside RTFM: each class's own videos alone."""
    found = _judged(settings, "UCF-Crime", ("rtfm", "ours"))
    kinds = sorted({video.kind for video in found["ours"] if video.kind})
    of_class = {
        NAMES[name]: [measure.frame_auc([v for v in videos if v.kind == kind]) for kind in kinds]
        for name, videos in found.items()
    }
    to = settings.results / "figure4.png"
    figures.by_class(kinds, of_class, to)
    lines = [f"| class | {' | '.join(of_class)} |", "|---" * (1 + len(of_class)) + "|"]
    for place, kind in enumerate(kinds):
        lines.append(f"| {kind} | " + " | ".join(f"{100 * values[place]:.1f}" for values in of_class.values()) + " |")
    return _figure(settings, f"Fig. 4, AUC % by class, {settings.protocols[0]}", to, lines)


def _against_length(settings: Settings, column: str, number: int) -> str:
    names = ("video_classifier", "bilstm_mil", "ours")
    made, wanted = (
        material(settings, column),
        plan(settings, names, (32, *(length for length in LENGTHS if length != 32))),
    )
    out = settings.results / _folder(column)
    experiment.run(made, wanted, out, settings.told)
    protocol = wanted.protocols[0]
    curves = {
        NAMES[name]: [
            experiment.result(made, wanted, out, name, protocol, length, rounds=0).mean("auc") for length in LENGTHS
        ]
        for name in names
    }
    to = settings.results / f"figure{number}.png"
    figures.against_length(LENGTHS, curves, to, title=f"{column}, {protocol}")
    lines = [f"| l | {' | '.join(curves)} |", "|---" * (1 + len(curves)) + "|"]
    for place, length in enumerate(LENGTHS):
        lines.append(f"| {length} | " + " | ".join(f"{100 * values[place]:.2f}" for values in curves.values()) + " |")
    return _figure(settings, f"Fig. {number}, AUC % against l on {column}, {protocol}", to, lines)


def figure5(settings: Settings) -> str:
    """AUC against l on UCF-Crime."""
    return _against_length(settings, "UCF-Crime", 5)


def figure6(settings: Settings) -> str:
    """AUC against l on ShanghaiTech (its caption says AP, its text AUC)."""
    return _against_length(settings, "ShanghaiTech", 6)


def figure7(settings: Settings) -> str:
    """Score curves of four videos of UCF-Crime with truth bands, ours and Sultani's; the last with both detectors."""
    found = _judged(settings, "UCF-Crime", ("sultani", "video_classifier", "bilstm_mil", "ours"))
    ids = [video.id for video in found["ours"]]
    chosen = [next((one for one in ids if one.startswith(name)), None) for name in SHOWN]
    if any(name is None for name in chosen) and settings.whole:
        raise ExperimentError(f"{SHOWN[chosen.index(None)]} is not among the test videos of UCF-Crime")
    # A part of the set may lack them: then its first videos serve.
    shown = [name or ids[place] for place, name in enumerate(chosen)]
    curves = {NAMES[name]: {video.id: video for video in videos if video.id in shown} for name, videos in found.items()}
    to = settings.results / "figure7.png"
    figures.score_curves(shown, curves, to, every=("Ours (mean)", "Sultani"))
    return _figure(settings, f"Fig. 7, score curves of {', '.join(shown)}, {settings.protocols[0]}", to, [])


def _figure(settings: Settings, title: str, to: Path, lines: Sequence[str]) -> str:
    stamp = _stamp(settings)
    return "\n".join([f"**{title}.**{stamp} {to}", "", *lines])


ALL: dict[str, Callable[[Settings], str]] = {
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "figure4": figure4,
    "figure5": figure5,
    "figure6": figure6,
    "figure7": figure7,
}
"""What ``vad-train reproduce`` knows."""
