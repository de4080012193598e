"""How one alert reaches one place: a file a kind of place, listed in `registry`."""
