"""Many sends: one image to many recipients, once to each, at a pace that WeChat bears."""
