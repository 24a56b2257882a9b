"""experiment.yaml → what is run on what: strict, every mistake at once, each with its line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from monitor.config import ConfigError, Problem, Settings
from monitor.config.lines import read
from monitor.config.plant import settings_in
from monitor.config.problems import Key, did_you_mean, sentence, show_key
from monitor.config.settings import mistake
from monitor.detectors.detector import kinds
from training import datasets, truth
from training import features as feature_files
from training.experiment import Material, Plan
from training.resident import Sampling
from training.train import DetectorRecipe

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,60}$")]
Positive = Annotated[int, Field(ge=1)]
Length = Annotated[int, Field(ge=1, le=4096)]


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) else value


class ScheduleSettings(Settings):
    """What differs from the detector's published schedule."""

    steps: Positive | None = None
    segments: Length | None = None
    """T."""
    evaluate_every: Positive | None = None
    half_batch: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    sampling: Sampling | None = None


class DetectorSettings(Settings):
    kind: str | None = None
    """One that the monitor knows; left out: the detector's name."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    schedule: ScheduleSettings = ScheduleSettings()


class ExperimentSettings(Settings):
    """One file: what is trained on which features, how often, and where the results go."""

    data: str
    """The name of a data set that vad-train knows."""
    source: Path
    """Its folder: lists, annotation, ``frame_truth.npz``."""
    features: Path | None = None
    """Where its features lie, in any published layout; left out: ``features`` in ``source``, or ``source`` itself."""
    layout: Literal["auto", "rtfm", "wu", "npz"] = "auto"
    audio: bool = False
    """Whether VGGish features are joined on."""
    whole: bool = True
    """The published number of videos must be there."""
    fps: Annotated[float, Field(gt=0)] = 30.0
    """Of the original videos: frames into hours and seconds."""
    detectors: Annotated[dict[Name, DetectorSettings], Field(min_length=1)]
    ensembles: dict[Name, dict[Name, Annotated[float, Field(gt=0)]]] = Field(default_factory=dict)
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2, 3, 4)
    lengths: Annotated[tuple[Length, ...], Field(min_length=1)] = (32,)
    protocols: Annotated[tuple[Literal["last", "validation", "paper-test-selected"], ...], Field(min_length=1)] = (
        "last",
        "validation",
        "paper-test-selected",
    )
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = 0.125
    stride: Length | None = None
    delay: Annotated[int, Field(ge=0)] = 0
    standardised: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    resident: Literal["float32", "float16"] = "float32"
    device: str = "cpu"
    out: Path

    _paths = field_validator("source", "features", "out", mode="before")(_path)

    @field_validator("data")
    @classmethod
    def _known_data(cls, name: str) -> str:
        if name not in datasets.DATA_SETS:
            raise ValueError(f"expected one of {', '.join(datasets.DATA_SETS)}{did_you_mean(name, datasets.DATA_SETS)}")
        return name

    @model_validator(mode="after")
    def _fits(self) -> ExperimentSettings:
        for name, one in self.detectors.items():
            kind = one.kind or name
            if kind not in kinds():
                known = ", ".join(kinds())
                raise mistake(
                    f"there is no detector '{kind}'; known are {known}{did_you_mean(kind, kinds())}", "detectors", name
                )
        for ensemble, parts in self.ensembles.items():
            if ensemble in self.detectors:
                raise mistake("a detector has that name already", "ensembles", ensemble)
            for part in parts:
                if part not in self.detectors:
                    raise mistake(
                        f"no detector of this file{did_you_mean(part, self.detectors)}", "ensembles", ensemble, part
                    )
        for length in self.lengths:
            stride = self.stride or length
            if stride > length or self.delay > length - stride:
                raise mistake(f"stride {stride} and delay {self.delay} do not fit bags of {length} segments", "lengths")
        return self

    def plan(self) -> Plan:
        return Plan(
            detectors={
                name: DetectorRecipe(
                    kind=one.kind or name,
                    arguments=one.arguments,
                    schedule=one.schedule.model_dump(exclude_none=True),
                )
                for name, one in self.detectors.items()
            },
            ensembles=self.ensembles,
            seeds=self.seeds,
            lengths=self.lengths,
            protocols=self.protocols,
            held_out=self.held_out,
            stride=self.stride,
            delay=self.delay,
            standardised=self.standardised,
            precision=self.precision,
            resident=self.resident,
            device=self.device,
        )

    @property
    def feature_folder(self) -> Path:
        return self.features or feature_folder(self.source)

    def material(self) -> Material:
        """Catalogue, features and frame truth. Raises a sentence about what is missing, and who has it."""
        videos = datasets.read(self.data, self.source, whole=self.whole)
        features = feature_files.load(
            self.feature_folder,
            videos,
            self.layout,
            audio=self.feature_folder if self.audio else None,
            keep=self.out / "features",
        )
        tested = tuple(video for video in videos if video.split == "test")
        return Material(
            name=self.data + (" with sound" if self.audio else ""),
            learnt=tuple(video for video in videos if video.split == "train"),
            tested=tested,
            features=features,
            truth=truth.read(self.source / "frame_truth.npz").of(video.id for video in tested),
            headline="ap" if datasets.of(self.data).measure == "AP" else "auc",
            sound=self.audio,
            fps=self.fps,
        )


def feature_folder(source: Path) -> Path:
    """``features`` in a data set's folder, where it is there: else they lie among the lists."""
    return source / "features" if (source / "features").is_dir() else source


def load(path: Path) -> ExperimentSettings:
    """The settings in ``path``; relative paths begin at its folder.

    Raises:
        ConfigError: every mistake, with its line and key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "it is not text"
        raise ConfigError([Problem(file=str(path), line=0, key="", message=f"cannot be read: {reason}")]) from fault
    document = read(text, str(path), {})
    problems = list(document.problems)
    if isinstance(document.data, dict):
        try:
            settings = ExperimentSettings.model_validate(document.data)
        except ValidationError as fault:
            for error in fault.errors(include_url=False):
                loc: Key = tuple(part for part in error["loc"] if part != "[key]")
                loc += tuple(error.get("ctx", {}).get("at", ()))
                place = next(
                    (document.places[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in document.places), None
                )
                got = document.places[loc].got if loc in document.places else ""
                message = sentence(error, got, _known(loc[:-1]))
                problems.append(
                    Problem(file=str(path), line=place.line if place else 1, key=show_key(loc), message=message)
                )
        else:
            if not problems:
                return _anchored(settings, path.resolve().parent)
    elif not problems:
        problems.append(
            Problem(file=str(path), line=1, key="", message="expected a mapping: data, source, detectors …")
        )
    raise ConfigError(problems)


def _known(loc: Key) -> tuple[str, ...]:
    """The keys that exist at a place of the file."""
    model: type[Settings] | None = ExperimentSettings
    for part in loc:
        if model is None:
            return ()
        found = model.model_fields.get(str(part))
        model = settings_in(found.annotation) if found is not None else model
    return tuple(model.model_fields) if model is not None else ()


def _anchored(settings: ExperimentSettings, folder: Path) -> ExperimentSettings:
    return settings.model_copy(
        update={
            "source": folder / settings.source.expanduser(),
            "features": None if settings.features is None else folder / settings.features.expanduser(),
            "out": folder / settings.out.expanduser(),
        }
    )
