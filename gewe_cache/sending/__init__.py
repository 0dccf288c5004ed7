"""One send: what is decided (``flow``), who waits for whom (``lanes``, ``flight``), and the two drivers."""
