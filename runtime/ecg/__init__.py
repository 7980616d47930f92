"""Streams of ECG signals: from the samples of devices and recordings to decisions."""
