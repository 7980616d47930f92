"""Resting ECGs in XML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multires_edge.base.errors import DataError
from multires_edge.runtime.ecg.lead_names import plain_names
from multires_edge.runtime.ecg.sources.opening import open_source
from multires_edge.runtime.ecg.sources.recordings import xml_tree
from multires_edge.runtime.ecg.sources.recordings.record import Damaged
from multires_edge.runtime.ecg.sources.recordings.xli import decompress
from tests import ecg_files
from tests.runtime.ecg.sources.recordings.test_record import read_all

X = ecg_files.numbers(600)
PLAIN = [lead.casefold() for lead in ecg_files.LEADS]


def write(tmp_path: Path, data: bytes) -> str:
    (tmp_path / "a.xml").write_bytes(data)
    return str(tmp_path / "a.xml")


@pytest.mark.parametrize("prefix", ["MDC_ECG_LEAD_", "MDC_ECG_ELEC_POTL_", ""])
def test_aecg(tmp_path: Path, prefix: str) -> None:
    """The rhythm is read, and not the beat in front of it."""
    source = open_source(write(tmp_path, ecg_files.aecg(X, prefix=prefix)))
    assert plain_names(source.signal.leads) == PLAIN
    assert (source.signal.rate, source.signal.unit) == (500, ["uV"] * 12)
    assert np.allclose(read_all(source, 99)[0], X)


def test_muse(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, ecg_files.muse(X[:, :8])))
    assert list(source.signal.leads) == ["I", "II", *ecg_files.LEADS[6:]] and source.signal.rate == 500
    assert np.array_equal(read_all(source)[0], X[:, :8] // 2 * 2)


@pytest.mark.parametrize("packed", [True, False])
def test_philips(tmp_path: Path, packed: bool) -> None:
    samples = X.copy()
    limbs = samples[:, 1] - samples[:, 0]
    if not packed:  # stored as they are: they follow the law nearly
        samples[:, 2] = limbs
    samples = samples // 5 * 5
    if packed:
        samples[:, 2] = limbs // 5 * 5 + 5  # stored as what the law does not say
    source = open_source(write(tmp_path, ecg_files.philips(samples, packed=packed)))
    assert list(source.signal.leads) == list(ecg_files.LEADS) and source.signal.rate == 500
    assert np.array_equal(read_all(source)[0], samples)


@given(st.lists(st.integers(-2000, 2000), min_size=3, max_size=400))
def test_compressed_leads(samples: list[int]) -> None:
    lead = np.array(samples) // 4
    assert np.array_equal(decompress(ecg_files.xli(lead))[0], lead)


@given(st.binary(max_size=200))
def test_junk_is_no_compressed_lead(data: bytes) -> None:
    try:
        decompress(data)
    except Damaged:
        return


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"<!DOCTYPE a [<!ENTITY x 'y'>]><AnnotatedECG>&x;</AnnotatedECG>", "a definition of an entity"),
        (b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><RestingECG>&x;</RestingECG>", "an entity"),
        (b"<RestingECG>", "no XML from line 1 on"),
        (b"<a>" * 200 + b"</a>" * 200, "too many elements"),
        (b"<Bob/>", "XML of an unknown kind"),
        (b"<RestingECG/>", "no waveform of the type Rhythm"),
        (b"<AnnotatedECG/>", "no sequences of leads"),
        (b"<restingecgdata/>", "no waveforms"),
        (b"", "no XML"),
    ],
)
def test_that_is_refused(tmp_path: Path, text: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as refused:
        open_source(write(tmp_path, text))
    assert "Bob" not in str(refused.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'scale value="0.5"', b'scale value="Bob"', "the scale is no number"),
        (b'unit="s"', b'unit="h"', "times in an unknown unit"),
        (b"<digits>", b"<digits>Bob ", "samples that are no numbers"),
    ],
)
def test_samples_that_are_damaged(tmp_path: Path, old: bytes, new: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        open_source(write(tmp_path, ecg_files.aecg(X).replace(old, new)))


def test_external_definitions_are_not_read() -> None:
    root = xml_tree.read_tree(b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a>1</a>')
    assert root.text == "1"
