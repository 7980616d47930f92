"""A page with a bundle's network in WebAssembly."""
