"""The caching reverse proxy: between a bot and GeWe, so that a bot in any language is spared its uploads.

``app`` takes each request apart from its neighbours: ``post_image`` sends what a sender can send, ``passing``
passes the rest on unchanged. ``run`` serves it until it is told to end.
"""
