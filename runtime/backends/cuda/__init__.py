"""The cuda backend: a step of all streams is one kernel, compiled for the network on the device."""
