"""Digests of what decisions depend on: a bundle's weights, and its card."""

from __future__ import annotations

from multires_edge.format.fields import digest_of, plain
from multires_edge.runtime.bundle import Bundle


def digest_of_weights(bundle: Bundle, precision: str) -> str:
    """The digest of the files with the weights of a step; one checkpoint can be exported in several ways."""
    manifest = bundle.manifest
    native = manifest.native.get(precision)
    graph = manifest.graph("step", precision)
    return digest_of({"graph": graph.sha256, "native": native and native.sha256})


def digest_of_card(bundle: Bundle) -> str:
    """The digest of everything in a card that changes decisions; one checkpoint can have several cards."""
    card = bundle.manifest.card
    output = None if card is None else card.output
    return digest_of(
        {"preprocessing": plain(bundle.preprocessing), "labels": bundle.labels, "output": output}
    )
