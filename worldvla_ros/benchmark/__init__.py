"""How fast a model runs here and how fast it could. Only the command imports it."""
