"""What a bundle is: manifest, configuration, card, targets, reference. Needs numpy alone."""
