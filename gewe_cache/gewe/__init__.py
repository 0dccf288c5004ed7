"""GeWe's side: its two calls, its answers, its refusals, its XML, and the one place that knows httpx."""
