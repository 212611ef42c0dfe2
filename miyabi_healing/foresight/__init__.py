"""What will come, from what has been measured: forecasts of when a limit is crossed.

Pure: imports nothing of ours but `model`, does no I/O, and needs no module but the commonest.
One more: a module of its own; what others may call is named here.
"""

from miyabi_healing.foresight.forecasting import Forecast, forecast

__all__ = ["Forecast", "forecast"]
