"""Images as sequences of pixels: scaling, the mixture of logistics, and sampling."""
