"""Programs for microcontrollers: a network's weights as constants, with the engine's sources around them."""
