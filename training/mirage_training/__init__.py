"""Training, evaluation and calibration of the mini models. It imports the builders; no other part imports it."""
