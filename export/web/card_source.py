"""What a card and the options of a stream say, as constants of a C++ program."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from multires_edge.base.errors import BundleError
from multires_edge.format.card import Preprocessing, volts_per
from multires_edge.format.high_pass import HighPass
from multires_edge.format.module import ModuleConfig
from multires_edge.runtime.backends.native_weights import window_of
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.ecg.lead_names import plain_names
from multires_edge.runtime.ecg.settings import DEFAULT_ALARM_AFTER, Pool, parse_duration, whole_steps

# Enumerators of Lead in ecg_card.h.
_LEADS = {"i": "kI", "ii": "kII", "iii": "kIII", "avr": "kAVR", "avl": "kAVL", "avf": "kAVF", "v6": "kV6"}


def check_streams(bundle: Bundle) -> Preprocessing:
    """The preprocessing of a bundle that turns samples into decisions. Raises BundleError for another."""
    manifest = bundle.manifest
    card = bundle.preprocessing
    if isinstance(manifest.network, ModuleConfig) or card is None or manifest.model.task != "classification":
        raise BundleError(
            f"{bundle.path}: a page runs classifiers whose card has preprocessing; export one with --card"
        )
    return card


def card_source(bundle: Bundle, every: str) -> str:
    """The header card.h, for decisions ``every`` seconds. Raises BackendError, BundleError or InputError.

    The pooling is the default of a stream.
    """
    card, own = check_streams(bundle), bundle.manifest.pooling
    rate = card.sampling_rate
    pool = Pool.parse(None, rate, own).suits(own)
    pooling = pool.pooling or own
    window = None if pooling is None else pooling.window
    full = pool.window(own)
    numbers = [
        repr(rate),
        repr(volts_per(card.unit)),
        str(whole_steps(parse_duration(every, "every"), rate, "every")),
        str(0 if pooling is None else window_of(pooling)),
        str(1 if pooling is None else window or 0),
        str(round(parse_duration(DEFAULT_ALARM_AFTER, "alarm_after") * rate) if full is None else full),
        str(card.usable_channels),
        *_filter(card.high_pass, rate),
        f"Output::{_output(bundle)}",
    ]
    leads = [f"Lead::{_LEADS.get(name, 'kOther')}" for name in plain_names(card.channels)]
    views = (f"{{{name}, {len(leads)}}}" for name in ("kCardMean", "kCardStd", "kCardLeads"))
    return (
        "// Written by multires-edge: the card of the network.\n"
        '#pragma once\n\n#include "ecg_card.h"\n\nnamespace multires {\n\n'
        + _array("double", "kCardMean", _by_channel(card.mean, len(leads)))
        + _array("double", "kCardStd", _by_channel(card.std, len(leads)))
        + _array("Lead", "kCardLeads", leads)
        + f"constexpr EcgCard kCard{{{', '.join([*numbers, *views])}}};\n\n}}  // namespace multires\n"
    )


def _by_channel(value: float | tuple[float, ...], channels: int) -> list[str]:
    return [repr(float(each)) for each in np.broadcast_to(np.asarray(value, np.float64), channels)]


def _array(kind: str, name: str, values: Iterable[str]) -> str:
    return f"inline constexpr {kind} {name}[] = {{{', '.join(values)}}};\n"


def _filter(high_pass: HighPass | None, rate: float) -> tuple[str, str, str]:
    if high_pass is None:
        return "Filter::kNone", "0", "0"
    corner = repr(high_pass.corner / rate)
    if high_pass.kind == "butterworth":
        return "Filter::kButterworth", corner, str(high_pass.order)
    assert high_pass.delay is not None
    return "Filter::kLinearPhase", corner, str(max(1, round(high_pass.delay * rate)))


def _output(bundle: Bundle) -> str:
    """As a stream turns outputs into probabilities."""
    if bundle.manifest.model.output_activation is not None:
        return "kProbabilities"
    card = bundle.manifest.card
    return "kSigmoid" if card is not None and card.output == "sigmoid" else "kSoftmax"
