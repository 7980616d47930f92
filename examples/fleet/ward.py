"""A simulated ward: publishes 12 leads of many patients to a NATS server, as bedside devices would.

python examples/fleet/ward.py --patients 40
python examples/fleet/ward.py --patients 4 --mqtt 127.0.0.1:1883
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import MultiresError
from multires_edge.runtime.fleet.broker import connect, options_of
from multires_edge.runtime.fleet.packet import Packet, Signal
from multires_edge.runtime.fleet.publisher import Publisher

RATE = 500
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
SIGNAL = Signal(LEADS, RATE, "uV")

# Sends a packet of a patient.
Send = Callable[[str, Packet], None]


class Ward:
    """The ECG of patients bed-0, bed-1, ...: heartbeats of another rate, height and noise in each bed."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def samples(self, patient: int, first: int, count: int) -> NDArray[np.int16]:
        """``count`` samples (n, 12) from sample ``first``, in microvolts; the same whenever asked."""
        random = np.random.default_rng([self._seed, patient])
        beat, offset = RATE * 60 / random.uniform(55, 100), random.uniform()
        heights = random.uniform(-900, 1300, 8)  # of I, II and V1 to V6
        index = np.arange(first, first + count)
        phase = (index / beat + offset) % 1
        wave = np.exp(-(((phase - 0.4) / 0.012) ** 2)) + 0.25 * np.exp(-(((phase - 0.65) / 0.05) ** 2))
        # The noise is a function of the number of the sample.
        noise = (index[:, None] * 8 + np.arange(8)) * 2_654_435_761 % 4093 / 100 - 20
        one, two, *chest = (wave[:, None] * heights + noise).T
        limbs = (one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2)
        return np.asarray(np.round(np.stack([*limbs, *chest], 1)), np.int16)


async def play(
    ward: Ward, send: Send, patients: range, recording: int, *, seconds: float, packet: int, speed: float,
    first: int = 0,
) -> None:  # fmt: skip
    """Send the packets of all patients in time, ``speed`` times as fast as real time."""
    begun, end = time.monotonic(), first + int(seconds * RATE)
    for start in range(first, end, packet):
        count = min(packet, end - start)
        due = begun + (start - first + count) / RATE / speed
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        for patient in patients:
            values = ward.samples(patient, start, count)
            send(f"bed-{patient}", Packet(SIGNAL, recording, start, values))


async def main(given: argparse.Namespace) -> None:
    """Play the ward by NATS or MQTT."""
    patients = range(given.first, given.first + given.patients)
    recording = int(time.time() * 1e6)
    options: dict[str, Any] = {
        "seconds": given.seconds, "packet": given.packet, "speed": given.speed,
    }  # fmt: skip
    if given.mqtt:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        host, _, port = given.mqtt.partition(":")
        device = Client(CallbackAPIVersion.VERSION2)
        device.connect(host, int(port or 1883))
        device.loop_start()

        def publish(patient: str, packet: Packet) -> None:
            device.publish(f"{given.samples}/{patient}", packet.to_bytes(), qos=1)

        await play(Ward(), publish, patients, recording, **options)
        device.disconnect()
        device.loop_stop()
        return
    client = await connect(options_of(given.nats), "ward", lambda text: print(text, file=sys.stderr))
    publisher = Publisher(client.jetstream(), given.samples)
    await play(Ward(), publisher.put, patients, recording, **options)
    await publisher.flush()
    print(f"{publisher.stored} packets of {given.patients} patients, {publisher.dropped} dropped")
    await client.close()


def parsed() -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], prog=Path(__file__).name)
    parser.add_argument("--nats", default="nats://127.0.0.1:4222", help="address of the server")
    parser.add_argument("--mqtt", metavar="HOST:PORT", help="publish by MQTT there instead")
    parser.add_argument("--samples", default="ecg", help="name of the stream")
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="number of the first bed")
    parser.add_argument("--seconds", type=float, default=86_400.0, help="seconds of the record")
    parser.add_argument("--packet", type=int, default=50, help="samples of a packet")
    parser.add_argument("--speed", type=float, default=1.0, help="times real time")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        asyncio.run(main(parsed()))
    except (MultiresError, OSError) as problem:
        sys.exit(f"error: {problem}")
    except KeyboardInterrupt:
        pass
