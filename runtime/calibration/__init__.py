"""Does a proxy rank as long training does? `calibrate` trains backbones long and asks every proxy about them."""

from runtime.calibration.calibrate import Calibration, calibrate

__all__ = ["Calibration", "calibrate"]
