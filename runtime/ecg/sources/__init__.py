"""Sources of samples: recordings, and lines of text from a file, standard input or a socket."""
