"""Real data for what is measured on it: proofs of parity, and calibration."""
