"""What gewe_cache costs and what it saves, measured beside what its users would otherwise do: ``make bench``."""
