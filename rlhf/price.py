"""What a second of a run costs. Nothing is fetched: the price of a device is `hardware.usd_per_hour`."""

SECONDS_AN_HOUR = 3600.0


def per_second(usd_per_hour: float | None, ranks: float) -> float | None:
    """Dollars a second of a run on one device a rank; None where no price is known."""
    return None if usd_per_hour is None else usd_per_hour * ranks / SECONDS_AN_HOUR
