"""Names of leads, as recorders write them."""

from __future__ import annotations

import pytest

from multires_edge.runtime.ecg.lead_names import (
    is_ecg,
    is_generic,
    is_lead,
    plain_name,
    plain_names,
    shown,
    split_unit,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("I", "i"),
        ("ii ", "ii"),
        ("ECG_I", "i"),
        ("ECG I", "i"),
        ("Lead I (Einthoven)", "i"),
        ("ekg-III", "iii"),
        ("MDC_ECG_LEAD_AVR", "avr"),
        ("MDC_ECG_ELEC_POTL_V3", "v3"),
        ("Ableitung I", "i"),
        ("D\u00e9rivation II", "ii"),
        ("aVF   ", "avf"),
        ("AVL", "avl"),
        ("a VR", "avr"),
        ("leadII", "ii"),
        ("ECGV1", "v1"),
        ("ECG V1-Ref", "v1"),
        ("I [mV]", "i"),
        ("V1_uV", "v1"),
        ("ecg [uV]", "ecg"),
        ("MLII", "mlii"),
        ("ECG MLII", "mlii"),
        ("V", "v"),
        ("EEG C3-A2", "eeg c3 a2"),
        ("-aVR", "-avr"),
        ("Lead -aVR", "-avr"),
        ("x", "x"),
    ],
)
def test_plain_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_the_names_of_iec_and_of_spain() -> None:
    assert plain_names(["DI", "DII", "C1", "C6"]) == ["i", "ii", "v1", "v6"]
    assert plain_names(["C1", "V1"]) == ["c1", "v1"]  # both names: they are different leads
    assert plain_names(["C3", "C4", "O1", "ECG II"]) == ["c3", "c4", "o1", "ii"]  # electrodes of an EEG


@pytest.mark.parametrize(
    ("name", "rest", "unit"),
    [
        ("I [mV]", "I", "mV"),
        ("ecg (\u00b5V)", "ecg", "uV"),
        ("ecg (\u03bcV)", "ecg", "uV"),
        ("II_uV", "II", "uV"),
        ("V1, mV", "V1", "mV"),
        ("V1 (V)", "V1", "V"),
        ("Lead V", "Lead V", None),
        ("V", "V", None),
        ("I", "I", None),
        ("ECG in microvolts", "ECG", "uV"),
        ("Lead I (Einthoven)", "Lead I (Einthoven)", None),
        ("mV", "mV", None),
    ],
)
def test_units_in_names(name: str, rest: str, unit: str | None) -> None:
    assert split_unit(name) == (rest, unit)


def test_kinds_of_names() -> None:
    assert is_lead("C2") and is_lead("Lead aVR") and not is_lead("MLII") and not is_lead("ecg")
    assert all(map(is_generic, ["ecg", "EKG", "A1", "EXG Channel 0", "ecg [uV]"])) and not is_generic("MLII")
    assert is_ecg("ECG x") and is_ecg("V5") and not is_ecg("EEG C3-A2")


def test_messages_quote_technical_words_only() -> None:
    assert shown(["ECG II", "MLII", "EEG C3-A2", "Ann Other", "", "ecg [uV]", "Other"]) == [
        "ECG II", "MLII", "EEG C3-A2", "#4", "#5", "ecg [uV]", "Other",
    ]  # fmt: skip
