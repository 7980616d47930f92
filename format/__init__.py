"""What a bundle is: its manifest, configuration, card, targets and reference. Needs numpy alone."""
