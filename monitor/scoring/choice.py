"""Which artefact ``scoring.artefact: auto`` is: the best of the shipped ones whose backbone can run here."""

from __future__ import annotations

from monitor.config import Scoring
from monitor.detectors.card import Card, read_card
from monitor.features.backbone import BackboneError, weights_folder

AUTO = "auto"
BEST_FIRST = ("motion", "default")
"""By the clip AUC of their cards, on cameras that they had not learnt from."""


def chosen(settings: Scoring) -> tuple[Scoring, str]:
    """The settings with the artefact that ``auto`` is here, and why (else an empty sentence); without torch, where
    nothing has to be chosen."""
    if settings.artefact != AUTO:
        return settings, ""
    name, why = artefact_of(AUTO, device_of(settings.device))
    return settings.model_copy(update={"artefact": name}), why


def device_of(wanted: str) -> str:
    """``auto`` is the first CUDA device, else the CPU; BackboneError where the wanted one is not there."""
    import torch

    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted != "cpu" and not torch.cuda.is_available():
        raise BackboneError(f"scoring.device: {wanted} is not to be had: torch sees no CUDA device; use auto or cpu")
    return "cuda:0" if wanted == "cuda" else wanted


def artefact_of(wanted: str, device: str) -> tuple[str, str]:
    """The artefact's name or folder, and in a sentence why ``auto`` is this one (else an empty one)."""
    if wanted != AUTO:
        return wanted, ""
    passed_over: list[str] = []
    for name in BEST_FIRST:
        card = read_card(name)
        reason = _missing(card.backbone, device)
        if reason is None or name == BEST_FIRST[-1]:
            rest = "".join(f"; {said}" for said in passed_over)
            return name, f"scoring.artefact: auto is '{name}' on {card.backbone}, {_measured(card)}{rest}"
        passed_over.append(f"not '{name}' ({_measured(card)}), for {reason}")
    raise AssertionError("the last one is always taken")


def _missing(backbone: str, device: str) -> str | None:
    """Why a backbone cannot run here; None where it can."""
    if backbone != "movinet_a0_stream":
        return None
    if device != "cpu":
        return f"{backbone} runs on the cpu only"
    from monitor.features.movinet import litert  # imports torch, as device_of

    try:
        litert()
    except BackboneError as fault:
        return str(fault)
    if not (weights_folder() / f"{backbone}.json").is_file():
        return f"its weights are not here: vad-monitor weights fetch {backbone}"
    return None


def _measured(card: Card) -> str:
    found = card.metrics.get("clip_auc", {})
    told = ", ".join(f"{name} {rows['ensemble']['mean']:.2f}" for name, rows in sorted(found.items()))
    return f"clip AUC on cameras it never saw: {told}" if told else "never measured on cameras it had not seen"
